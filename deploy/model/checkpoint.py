"""A trained RT-DETRv2 in the format of the hub: config.json, preprocessor_config.json and *.safetensors."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.labels import canonical

MODEL_TYPE = "rt_detr_v2"
FILES = ("config.json", "preprocessor_config.json")
# Other formats of weights can run code when they are read.
WEIGHTS = "*.safetensors"
# The name becomes a folder's name and a part of URLs.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# Layer type and depths of the backbone -> its common name.
BACKBONES = {
    ("basic", (2, 2, 2, 2)): "r18",
    ("basic", (3, 4, 6, 3)): "r34",
    ("bottleneck", (3, 4, 6, 3)): "r50",
    ("bottleneck", (3, 4, 23, 3)): "r101",
}


class CheckpointError(Exception):
    """The checkpoint cannot be exported. The message says why."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`name` is a name such as `rtdetrv2-r18`, `labels` the canonical labels by class number, and `side` the
    side of the square input in pixels. `digest` is the hex SHA-256 of the weights (of all files, ordered by
    name)."""

    folder: Path
    name: str
    labels: tuple[str, ...]
    side: int
    digest: str


def read_checkpoint(folder: Path, name: str = "", source_name: str = "") -> Checkpoint:
    """Without `name`, the model is named after its backbone, or if that is not a published one, after
    `source_name` or the folder.

    Raises CheckpointError if it is not an RT-DETRv2, or expects other pixels than RGB in 0..1 of a square.
    """
    config, pixels = (_json(folder / file) for file in FILES)
    if config.get("model_type") != MODEL_TYPE:
        raise CheckpointError(
            f"{folder}: model_type is {config.get('model_type')!r}, expected {MODEL_TYPE!r}"
        )
    weights = sorted(folder.glob(WEIGHTS))
    if not weights:
        raise CheckpointError(f"{folder}: no {WEIGHTS}; save the model with transformers' save_pretrained()")
    name = name or _name(source_name or folder.resolve().name, config)
    if not NAME.fullmatch(name):
        raise CheckpointError(
            f"{name!r} is not a valid model name: use at most 63 letters, digits, dots and hyphens"
        )
    return Checkpoint(folder, name, _labels(folder, config), _side(folder, pixels), _digest(weights))


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            while block := content.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path.parent}: no {path.name}; a checkpoint in the format of the hub has {', '.join(FILES)}"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return content


def _name(source_name: str, config: dict[str, Any]) -> str:
    backbone = config.get("backbone_config") or {}
    kind = backbone.get("layer_type"), tuple(backbone.get("depths", ()))
    known = next((name for form, name in BACKBONES.items() if form == kind), None)
    # A narrower or wider backbone of the same depth is not the published one.
    if known and backbone.get("embedding_size", 64) == 64:
        return f"rtdetrv2-{known}"
    return re.sub(r"[^a-z0-9]+", "-", source_name.lower())[:63].strip("-") or "rtdetrv2"


def _labels(folder: Path, config: dict[str, Any]) -> tuple[str, ...]:
    named = config.get("id2label") or {}
    try:
        labels = tuple(canonical(named[str(number)]) for number in range(len(named)))
    except KeyError as missing:
        raise CheckpointError(f"{folder}: id2label lacks the class {missing}") from None
    if not labels or len(set(labels)) < len(labels):
        raise CheckpointError(f"{folder}: id2label must give each class a different name")
    return labels


def _side(folder: Path, pixels: dict[str, Any]) -> int:
    size = pixels.get("size") or {}
    height, width = size.get("height"), size.get("width")
    if not isinstance(height, int) or height != width or height % 32:
        raise CheckpointError(f"{folder}: size must be a square of a multiple of 32 pixels, not {size}")
    if pixels.get("do_normalize") or pixels.get("do_pad") or not pixels.get("do_rescale", True):
        raise CheckpointError(
            f"{folder}: only pixels divided by 255 are supported, without normalisation or padding"
        )
    if abs(pixels.get("rescale_factor", 1 / 255) - 1 / 255) > 1e-6:
        raise CheckpointError(f"{folder}: rescale_factor must be 1/255")
    return height
