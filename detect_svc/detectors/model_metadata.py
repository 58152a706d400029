"""The metadata of a fused RT-DETRv2: which tensors it must have, and its name, digest and labels. Pure.

docs/models.md describes how to make such a model: an ONNX file, or a model in a Triton repository.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mesh.labels import canonical

INPUT = "images"
OUTPUTS = ("scores", "labels", "boxes")
# A dimension without a fixed size.
ANY = -1
INPUT_SIDES = range(32, 4097)


class UnsupportedModel(ValueError):
    """The model is not a fused RT-DETRv2. The message lists what was expected and what was found."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """`dtype` is numpy's name of the type; `shape` has ANY for dimensions without a fixed size."""

    dtype: str
    shape: Sequence[int]

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join('any' if size == ANY else str(size) for size in self.shape)}]"


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """`digest` is the hex SHA-256 of the weights, `labels` the canonical labels by class number, and `side`
    the side of the square input in pixels."""

    name: str
    digest: str
    labels: tuple[str, ...]
    side: int


def read_metadata(tensors: Mapping[str, TensorSpec], parameters: Mapping[str, str]) -> ModelMetadata:
    """`tensors` are the inputs and outputs by name; `parameters` the model's own `name`, `digest` and
    `labels` (a JSON list).

    Raises UnsupportedModel, listing everything that is wrong.
    """
    errors = [*_input_errors(tensors), *_output_errors(tensors), *_parameter_errors(parameters)]
    if errors:
        raise UnsupportedModel("; ".join(errors))
    labels = tuple(map(canonical, json.loads(parameters["labels"])))
    return ModelMetadata(parameters["name"], parameters["digest"].lower(), labels, tensors[INPUT].shape[1])


def _input_errors(tensors: Mapping[str, TensorSpec]) -> list[str]:
    spec = tensors.get(INPUT)
    if spec and spec.dtype == "uint8" and len(spec.shape) == 4:
        count, height, width, channels = spec.shape
        if count in (ANY, 1) and height == width and height in INPUT_SIDES and channels == 3:
            return []
    return [f"input {INPUT}: expected uint8 [any, S, S, 3], found {_found(spec, tensors)}"]


def _output_errors(tensors: Mapping[str, TensorSpec]) -> list[str]:
    errors = []
    for name, dtype, tail in zip(OUTPUTS, ("float32", "int32", "float32"), ((), (), (4,)), strict=True):
        spec = tensors.get(name)
        if (
            spec is None
            or spec.dtype != dtype
            or len(spec.shape) != 2 + len(tail)
            or tuple(spec.shape[2:]) != tail
        ):
            expected = f"{dtype} [any, Q{', 4' if tail else ''}]"
            errors.append(f"output {name}: expected {expected}, found {_found(spec, tensors)}")
    return errors


def _found(spec: TensorSpec | None, tensors: Mapping[str, TensorSpec]) -> str:
    return str(spec) if spec else f"only {', '.join(sorted(tensors)) or 'nothing'}"


def _parameter_errors(parameters: Mapping[str, str]) -> list[str]:
    name, digest, labels = (parameters.get(key, "") for key in ("name", "digest", "labels"))
    checks = {
        "name": ("a name such as rtdetrv2-r18", re.fullmatch(r"[A-Za-z0-9._-]{1,63}", name)),
        "digest": ("a hex SHA-256", re.fullmatch(r"[0-9a-fA-F]{64}", digest)),
        "labels": ("a JSON list of class names", _is_list_of_names(labels)),
    }
    return [
        f"parameter {key}: expected {expected}, found {parameters.get(key, 'none')[:80]!r}"
        for key, (expected, is_valid) in checks.items()
        if not is_valid
    ]


def _is_list_of_names(text: str) -> bool:
    try:
        names = json.loads(text)
    except ValueError:
        return False
    return isinstance(names, list) and bool(names) and all(isinstance(name, str) for name in names)
