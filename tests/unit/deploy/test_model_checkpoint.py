"""Which checkpoints `lares model export` accepts and refuses."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from deploy.model.checkpoint import CheckpointError, read_checkpoint

R18 = {"layer_type": "basic", "depths": [2, 2, 2, 2], "embedding_size": 64}
# As in the folders of the hub.
CONFIG = {"model_type": "rt_detr_v2", "backbone_config": R18, "id2label": {"0": "person", "1": "sofa"}}
PIXELS = {
    "do_normalize": False,
    "do_pad": False,
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 640, "width": 640},
}


def folder(path: Path, config: dict[str, Any] | None = None, pixels: dict[str, Any] | None = None) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(CONFIG | (config or {})))
    (path / "preprocessor_config.json").write_text(json.dumps(PIXELS | (pixels or {})))
    (path / "model.safetensors").write_bytes(b"weights")
    return path


def test_a_folder_in_the_format_of_the_hub(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(folder(tmp_path))
    assert checkpoint.name == "rtdetrv2-r18"
    assert checkpoint.labels == ("person", "couch")
    assert checkpoint.side == 640
    assert checkpoint.digest == hashlib.sha256(b"weights").hexdigest()


@pytest.mark.parametrize(
    ("layers", "depths", "name"),
    [
        ("basic", [3, 4, 6, 3], "rtdetrv2-r34"),
        ("bottleneck", [3, 4, 6, 3], "rtdetrv2-r50"),
        ("bottleneck", [3, 4, 23, 3], "rtdetrv2-r101"),
        ("bottleneck", [1, 1, 1, 1], "my-model-2"),
    ],
)
def test_the_name_is_that_of_the_backbone_or_the_folder(
    tmp_path: Path, layers: str, depths: list[int], name: str
) -> None:
    backbone = R18 | {"layer_type": layers, "depths": depths}
    checkpoint_folder = folder(tmp_path / "My Model_2", {"backbone_config": backbone})
    assert read_checkpoint(checkpoint_folder).name == name
    assert read_checkpoint(checkpoint_folder, "mine").name == "mine"


def test_a_model_from_the_hub_is_named_after_its_id(tmp_path: Path) -> None:
    checkpoint_folder = folder(tmp_path / "0123abcd", {"backbone_config": R18 | {"depths": [1, 1, 1, 1]}})
    assert read_checkpoint(checkpoint_folder, source_name="My-Model").name == "my-model"


def test_weights_in_several_files_have_one_digest(tmp_path: Path) -> None:
    checkpoint_folder = folder(tmp_path)
    (checkpoint_folder / "model.safetensors").unlink()
    (checkpoint_folder / "model-00002-of-00002.safetensors").write_bytes(b"two")
    (checkpoint_folder / "model-00001-of-00002.safetensors").write_bytes(b"one")
    assert read_checkpoint(checkpoint_folder).digest == hashlib.sha256(b"onetwo").hexdigest()


@pytest.mark.parametrize(
    ("config", "pixels", "message"),
    [
        ({"model_type": "detr"}, {}, "expected 'rt_detr_v2'"),
        ({"id2label": {}}, {}, "a different name"),
        ({"id2label": {"0": "tv", "1": "television"}}, {}, "a different name"),
        ({"id2label": {"0": "person", "2": "dog"}}, {}, "lacks the class '1'"),
        ({}, {"size": {"height": 640, "width": 480}}, "must be a square"),
        ({}, {"size": {"height": 650, "width": 650}}, "multiple of 32"),
        ({}, {"size": {"shortest_edge": 640}}, "must be a square"),
        ({}, {"do_normalize": True}, "without normalisation"),
        ({}, {"do_pad": True}, "or padding"),
        ({}, {"do_rescale": False}, "divided by 255"),
        ({}, {"rescale_factor": 1 / 127.5}, "1/255"),
    ],
)
def test_a_checkpoint_that_the_graph_cannot_represent_is_refused(
    tmp_path: Path, config: dict[str, Any], pixels: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(folder(tmp_path, config, pixels))


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    checkpoint_folder = folder(tmp_path)
    (checkpoint_folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: not JSON"):
        read_checkpoint(checkpoint_folder)
    (checkpoint_folder / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"config\.json: not a JSON object"):
        read_checkpoint(checkpoint_folder)
    (folder(checkpoint_folder) / "model.safetensors").rename(checkpoint_folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors"):
        read_checkpoint(checkpoint_folder)
    (checkpoint_folder / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no preprocessor_config\.json"):
        read_checkpoint(checkpoint_folder)


@pytest.mark.parametrize("name", ["../up", "a b", ".hidden", "x" * 64])
def test_a_name_that_is_not_valid_in_paths_and_urls_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="is not a valid model name"):
        read_checkpoint(folder(tmp_path), name)
