"""The labels that a .tflite file carries."""

import zipfile
from pathlib import Path

from mesh.labels import canonical

# The label of a class number that COCO does not use.
UNNAMED = "???"


def read_model_labels(model: Path) -> list[str]:
    """The canonical labels in a .tflite file, by class number."""
    with zipfile.ZipFile(model) as archive:
        return [canonical(line) for line in archive.read("labels.txt").decode().splitlines()]
