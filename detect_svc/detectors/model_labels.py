"""A model's labels by class number, and those that a .tflite file carries."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

from mesh.labels import canonical

# The labels of class numbers that COCO does not use, as lists of labels have them.
UNNAMED = frozenset({"", "???", "n/a"})


def named_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels that a detection can have, each once."""
    return tuple(dict.fromkeys(label for label in labels if label not in UNNAMED))


def read_model_labels(model: Path) -> list[str]:
    """The canonical labels in a .tflite file, by class number."""
    with zipfile.ZipFile(model) as archive:
        return [canonical(line) for line in archive.read("labels.txt").decode().splitlines()]
