"""The names of object classes: those of COCO, and other spellings of them.

Every name from outside goes through `canonical`: those of detectors, settings, cameras and filters.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

_HYPHENS = re.compile("[\u2010-\u2015\u2212]")  # hyphens, dashes and the minus sign
MAX_LISTED, MAX_LENGTH = 100, 64  # of the labels in a message

COCO_LABELS = (
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

# Names of Pascal VOC, Darknet and some checkpoints.
ALIASES = {
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "tv monitor": "tv",
    "television": "tv",
    "doughnut": "donut",
    "hair dryer": "hair drier",
    "mobile phone": "cell phone",
    "bike": "bicycle",
}


def canonical(name: str) -> str:
    """Returns the COCO name of a class, whose words may be spelled with any case, and with spaces, hyphens
    and underscores between them, or nothing. A name that COCO does not have is only lower-cased and
    trimmed."""
    # NFKC: other forms of the same letters, such as full-width ones.
    plain = " ".join(unicodedata.normalize("NFKC", name).replace("_", " ").lower().split())
    return _COCO_NAMES.get(_joined(plain), plain)


def _joined(name: str) -> str:
    if not name.isascii():
        # Byte-order marks and the like come with a name that is copied from somewhere.
        name = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
        name = _HYPHENS.sub("-", name.strip())
    # A hyphen that joins no words may stand for "not".
    return name if name[:1] == "-" or name[-1:] == "-" else name.replace(" ", "").replace("-", "")


_COCO_NAMES = {_joined(name): name for name in COCO_LABELS} | {
    _joined(alias): name for alias, name in ALIASES.items()
}


def listed(labels: Iterable[str]) -> str:
    """Returns the labels for a message: at most MAX_LISTED of them, because a detector may have
    thousands, and gRPC bounds an error's text."""
    names = list(labels)
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(name[:MAX_LENGTH] for name in names[:MAX_LISTED]) + more


def by_canonical(values: Mapping[str, T]) -> dict[str, T]:
    """Returns the values by canonical label. Of several names for one label, the last in alphabetical order
    wins, because the order of a map may mean nothing."""
    return {canonical(name): values[name] for name in sorted(values)}


def unique_by_canonical(values: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Returns the values by canonical label. Raises ValueError if two names mean the same label."""
    names: dict[str, str] = {}
    unique: dict[str, T] = {}
    for name, value in values:
        label = canonical(name)
        if label in names:
            both = (
                f"{name!r} is there twice"
                if names[label] == name
                else f"{names[label]!r} and {name!r} are the same"
            )
            raise ValueError(both)
        names[label], unique[label] = name, value
    return unique
