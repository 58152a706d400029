"""The Triton model repository that `lares model export` writes."""

import json
import re
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from deploy.model.checkpoint import Checkpoint
from deploy.model.repository import config, readme, write_repository
from detect_svc.detectors.model_metadata import TensorSpec, read_metadata
from mesh.labels import COCO_LABELS

CHECKPOINT = Checkpoint(Path("unused"), "rtdetrv2-r18", COCO_LABELS, 640, "ab" * 32)
DTYPES = {triton.TYPE_UINT8: "uint8", triton.TYPE_INT32: "int32", triton.TYPE_FP32: "float32"}


@pytest.fixture(scope="module")
def model() -> triton.ModelConfig:
    return text_format.Parse(config(CHECKPOINT, 300), triton.ModelConfig())


def test_the_tensors_are_those_of_the_graph(model: triton.ModelConfig) -> None:
    tensors = {one.name: (DTYPES[one.data_type], list(one.dims)) for one in (*model.input, *model.output)}
    assert tensors == {
        "images": ("uint8", [640, 640, 3]),
        "scores": ("float32", [300]),
        "labels": ("int32", [300]),
        "boxes": ("float32", [300, 4]),
    }


def test_detect_svc_can_read_the_metadata(model: triton.ModelConfig) -> None:
    tensors = {
        one.name: TensorSpec(DTYPES[one.data_type], [-1, *one.dims]) for one in (*model.input, *model.output)
    }
    parameters = {name: value.string_value for name, value in model.parameters.items()}
    metadata = read_metadata(tensors, parameters)
    assert (metadata.name, metadata.digest, metadata.labels, metadata.side) == (
        "rtdetrv2-r18",
        "ab" * 32,
        COCO_LABELS,
        640,
    )


def test_batches_wait_three_milliseconds_and_no_queue_policy_is_set(model: triton.ModelConfig) -> None:
    assert (model.name, model.backend, model.max_batch_size) == ("rtdetrv2-r18", "onnxruntime", 8)
    assert list(model.dynamic_batching.preferred_batch_size) == [4, 8]
    assert model.dynamic_batching.max_queue_delay_microseconds == 3000
    # With one instance, either of these makes a tenth of the requests wait for half a second.
    assert not model.dynamic_batching.HasField("default_queue_policy")
    assert not model.dynamic_batching.priority_queue_policy
    (group,) = model.instance_group
    assert (group.count, group.kind) == (1, triton.ModelInstanceGroup.KIND_GPU)


def test_tensorrt_uses_fp16_except_for_layer_norms(model: triton.ModelConfig) -> None:
    (accelerator,) = model.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    parameters = accelerator.parameters
    assert parameters["precision_mode"] == "FP16"
    assert parameters["trt_layer_norm_fp32_fallback"] == "1"
    assert parameters["trt_profile_min_shapes"] == "images:1x640x640x3"
    assert (
        parameters["trt_profile_opt_shapes"] == parameters["trt_profile_max_shapes"] == "images:8x640x640x3"
    )


def test_engines_are_stored_by_weights_and_size(model: triton.ModelConfig) -> None:
    (accelerator,) = model.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.parameters["trt_engine_cache_enable"] == "1"
    assert accelerator.parameters["trt_engine_cache_path"] == "/engines/rtdetrv2-r18-640-abababababab"


def test_the_smallest_and_the_largest_batch_are_warmed_up(model: triton.ModelConfig) -> None:
    assert [one.batch_size for one in model.model_warmup] == [1, 8]
    for one in model.model_warmup:
        images = one.inputs["images"]
        assert (images.data_type, list(images.dims), images.random_data) == (
            triton.TYPE_UINT8,
            [640, 640, 3],
            True,
        )


def test_labels_may_contain_any_character() -> None:
    odd = ('say "ah"', "back\\slash", "Hündin", "a\nb", "{brace}")
    checkpoint = Checkpoint(Path("unused"), "odd", odd, 320, "cd" * 32)
    model = text_format.Parse(config(checkpoint, 30), triton.ModelConfig())
    assert tuple(json.loads(model.parameters["labels"].string_value)) == odd


def test_the_folder_has_everything_except_the_graph(tmp_path: Path) -> None:
    graph = write_repository(CHECKPOINT, 300, tmp_path)
    assert graph == tmp_path / "rtdetrv2-r18" / "1" / "model.onnx"
    assert graph.parent.is_dir()
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"README.md", "rtdetrv2-r18/config.pbtxt", "rtdetrv2-r18/labels.txt"}
    assert (tmp_path / "rtdetrv2-r18/labels.txt").read_text().splitlines() == list(COCO_LABELS)


def test_the_readme_matches_the_configuration() -> None:
    page, text = readme(CHECKPOINT, 300), config(CHECKPOINT, 300)
    (cache,) = re.findall(r'trt_engine_cache_path" value: "(/\w+)/', text)
    assert f":{cache} " in page
    assert "triton://localhost:8001/rtdetrv2-r18" in page
    assert CHECKPOINT.digest in page
    assert "{" not in page
