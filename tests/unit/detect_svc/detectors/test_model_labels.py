"""The labels that a model's file carries."""

import zipfile
from pathlib import Path

from detect_svc.detectors.model_labels import UNNAMED, named_labels, read_model_labels


def test_the_labels_of_a_file_are_canonical_and_those_without_a_name_are_left_out(tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    lines = ["Person", "???", "motorbike", "", "N/A", "motorcycle", "Forklift"]
    with zipfile.ZipFile(model, "w") as archive:
        archive.writestr("labels.txt", "\n".join(lines))
    labels = read_model_labels(model)
    assert labels == ["person", "???", "motorcycle", "", "n/a", "motorcycle", "forklift"]
    assert named_labels(labels) == ("person", "motorcycle", "forklift")
    assert UNNAMED.isdisjoint(named_labels(labels))
