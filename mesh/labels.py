"""What classes are called: COCO's names, whatever spelling a person or a model has for them."""

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


def canonical(name: str) -> str:
    """The COCO name of a class, whatever its spelling; a name that COCO does not know stays as it is."""
    plain = " ".join(name.replace("_", " ").lower().split())
    return ALIASES.get(plain, plain)
