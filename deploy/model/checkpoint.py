"""A trained RT-DETRv2 in the hub's form: config.json, preprocessor_config.json and *.safetensors."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.labels import canonical

KIND = "rt_detr_v2"
FILES = ("config.json", "preprocessor_config.json")
# Only safetensors: other forms of weights can run code when they are read.
WEIGHTS = "*.safetensors"
# It names a folder, and goes into URLs.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# Layer type and depths of the backbone -> how people call it.
BACKBONES = {
    ("basic", (2, 2, 2, 2)): "r18",
    ("basic", (3, 4, 6, 3)): "r34",
    ("bottleneck", (3, 4, 6, 3)): "r50",
    ("bottleneck", (3, 4, 23, 3)): "r101",
}


class CheckpointError(Exception):
    """This checkpoint cannot be exported; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`name` is `rtdetrv2-r18` and the like; `labels` are canonical, by class number; the model looks at
    squares of `side` pixels; `digest` is the hex sha256 of the weights (of all files, in order of name)."""

    folder: Path
    name: str
    labels: tuple[str, ...]
    side: int
    digest: str


def read_checkpoint(folder: Path, name: str = "", called: str = "") -> Checkpoint:
    """`name` "": by the backbone, or else as the checkpoint is `called`, or else as its folder.

    Raises CheckpointError for what is no RT-DETRv2 or expects other pixels than 0..1 RGB of a square.
    """
    config, pixels = (_json(folder / file) for file in FILES)
    if config.get("model_type") != KIND:
        raise CheckpointError(f"{folder}: model_type is {config.get('model_type')!r}, {KIND!r} is needed")
    weights = sorted(folder.glob(WEIGHTS))
    if not weights:
        raise CheckpointError(f"{folder}: no {WEIGHTS}; save the model with transformers' save_pretrained()")
    name = name or _name(called or folder.resolve().name, config)
    if not NAME.fullmatch(name):
        raise CheckpointError(f"{name!r} is no name for a model: letters, digits, dots, hyphens; 63 at most")
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
            f"{path.parent}: no {path.name}; a folder of the hub's form has {', '.join(FILES)}"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path}: no JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: an object is needed")
    return content


def _name(called: str, config: dict[str, Any]) -> str:
    backbone = config.get("backbone_config") or {}
    kind = backbone.get("layer_type"), tuple(backbone.get("depths", ()))
    known = next((name for form, name in BACKBONES.items() if form == kind), None)
    # A smaller or wider one of the same depth is not the published one.
    if known and backbone.get("embedding_size", 64) == 64:
        return f"rtdetrv2-{known}"
    return re.sub(r"[^a-z0-9]+", "-", called.lower())[:63].strip("-") or "rtdetrv2"


def _labels(folder: Path, config: dict[str, Any]) -> tuple[str, ...]:
    named = config.get("id2label") or {}
    try:
        labels = tuple(canonical(named[str(number)]) for number in range(len(named)))
    except KeyError as missing:
        raise CheckpointError(f"{folder}: id2label lacks the class {missing}") from None
    if not labels or len(set(labels)) < len(labels):
        raise CheckpointError(f"{folder}: id2label must name every class, each by a name of its own")
    return labels


def _side(folder: Path, pixels: dict[str, Any]) -> int:
    size = pixels.get("size") or {}
    height, width = size.get("height"), size.get("width")
    if not isinstance(height, int) or height != width or height % 32:
        raise CheckpointError(f"{folder}: size must be a square of a multiple of 32 pixels, not {size}")
    if pixels.get("do_normalize") or pixels.get("do_pad") or not pixels.get("do_rescale", True):
        raise CheckpointError(
            f"{folder}: only pixels divided by 255 are known here, without normalisation or padding"
        )
    if abs(pixels.get("rescale_factor", 1 / 255) - 1 / 255) > 1e-6:
        raise CheckpointError(f"{folder}: rescale_factor must be 1/255")
    return height
