"""The names of the COCO-80 classes, and the other names they go by."""

import zipfile
from pathlib import Path

CANONICAL = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip

# As Pascal VOC, Darknet and some checkpoints print them.
ALIASES = {
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "tvmonitor": "tv",
    "tv monitor": "tv",
    "television": "tv",
    "diningtable": "dining table",
    "pottedplant": "potted plant",
    "doughnut": "donut",
    "hair dryer": "hair drier",
    "cellphone": "cell phone",
    "mobile phone": "cell phone",
    "bike": "bicycle",
}

UNNAMED = "???"


def canonical(name: str) -> str:
    """The COCO name of a class, whatever its spelling; a name that COCO does not know stays as it is."""
    plain = " ".join(name.replace("_", " ").lower().split())
    return ALIASES.get(plain, plain)


def labels_in(model: Path) -> list[str]:
    """By class number, canonical, as a .tflite file carries them; numbers that COCO left out are "???"."""
    with zipfile.ZipFile(model) as archive:
        return [canonical(line) for line in archive.read("labels.txt").decode().splitlines()]
