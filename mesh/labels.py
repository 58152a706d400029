"""The names of object classes: those of COCO, and other spellings of them."""

# Spellings of Pascal VOC, Darknet and some checkpoints.
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


def canonical(name: str) -> str:
    """Returns the COCO name of a class. A name that COCO does not have is only lower-cased and trimmed."""
    plain = " ".join(name.replace("_", " ").lower().split())
    return ALIASES.get(plain, plain)
