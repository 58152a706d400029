"""What a fused RT-DETRv2 must look like, and what it says of itself. Pure.

docs/models.md says how such a model is made: an ONNX file, or a folder of a Triton repository.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mesh.labels import canonical

IMAGES = "images"
OUTPUTS = ("scores", "labels", "boxes")
ANY = -1
SIDES = range(32, 4097)


class UnsupportedModel(ValueError):
    """A model that this program cannot ask; says what was expected and what was found."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """`dtype` by numpy's name; `shape` with -1 for what is open."""

    dtype: str
    shape: Sequence[int]

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join('any' if size == ANY else str(size) for size in self.shape)}]"


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """`labels` by class number, canonical; `side` of the square input in pixels; `digest`: hex SHA-256 of
    the weights."""

    name: str
    digest: str
    labels: tuple[str, ...]
    side: int


def read_metadata(tensors: Mapping[str, TensorSpec], said: Mapping[str, str]) -> ModelMetadata:
    """`tensors`: inputs and outputs by name; `said`: the model's own `name`, `digest` and `labels` (JSON).

    Raises UnsupportedModel with everything that does not fit.
    """
    wrong = [line for line in (_image(tensors), *_outputs(tensors), *_words(said)) if line]
    if wrong:
        raise UnsupportedModel("; ".join(wrong))
    labels = tuple(map(canonical, json.loads(said["labels"])))
    return ModelMetadata(said["name"], said["digest"].lower(), labels, tensors[IMAGES].shape[1])


def _image(tensors: Mapping[str, TensorSpec]) -> str:
    found = tensors.get(IMAGES)
    if found and found.dtype == "uint8" and len(found.shape) == 4:
        count, height, width, channels = found.shape
        if count in (ANY, 1) and height == width and height in SIDES and channels == 3:
            return ""
    return f"input {IMAGES}: expected uint8 [any, S, S, 3], found {_or_names(found, tensors)}"


def _outputs(tensors: Mapping[str, TensorSpec]) -> list[str]:
    wrong = []
    for name, dtype, tail in zip(OUTPUTS, ("float32", "int32", "float32"), ((), (), (4,)), strict=True):
        found = tensors.get(name)
        if (
            found is None
            or found.dtype != dtype
            or len(found.shape) != 2 + len(tail)
            or tuple(found.shape[2:]) != tail
        ):
            expected = f"{dtype} [any, Q{', 4' if tail else ''}]"
            wrong.append(f"output {name}: expected {expected}, found {_or_names(found, tensors)}")
    return wrong


def _or_names(found: TensorSpec | None, tensors: Mapping[str, TensorSpec]) -> str:
    return str(found) if found else f"only {', '.join(sorted(tensors)) or 'nothing'}"


def _words(said: Mapping[str, str]) -> list[str]:
    forms = {
        "name": ("a word, such as rtdetrv2-r18", re.fullmatch(r"[A-Za-z0-9._-]{1,63}", said.get("name", ""))),
        "digest": ("hex SHA-256", re.fullmatch(r"[0-9a-fA-F]{64}", said.get("digest", ""))),
        "labels": ("a JSON list of class names", _is_names(said.get("labels", ""))),
    }
    return [
        f"parameter {name}: expected {form}, found {said.get(name, 'none')[:80]!r}"
        for name, (form, fits) in forms.items()
        if not fits
    ]


def _is_names(text: str) -> bool:
    try:
        names = json.loads(text)
    except ValueError:
        return False
    return isinstance(names, list) and bool(names) and all(isinstance(name, str) for name in names)
