"""A Triton model repository around one fused model, and a page in it for whoever runs it."""

import json
from pathlib import Path

from deploy.model.checkpoint import Checkpoint

BATCH = 8
# Where config.pbtxt has TensorRT keep what it built; the README mounts a folder there.
ENGINES = "/engines"

CONFIG = """\
# RT-DETRv2 with its pre- and post-processing inside. Written by `lares model export`.
name: {name}
backend: "onnxruntime"
max_batch_size: {batch}

input [ {{ name: "images" data_type: TYPE_UINT8 dims: [ {side}, {side}, 3 ] }} ]
output [
  {{ name: "scores" data_type: TYPE_FP32 dims: [ {queries} ] }},
  {{ name: "labels" data_type: TYPE_INT32 dims: [ {queries} ] }},
  {{ name: "boxes" data_type: TYPE_FP32 dims: [ {queries}, 4 ] }}
]

# No default_queue_policy: with one instance it lets some requests wait half a second in an idle queue.
# Lares bounds what it has in flight instead.
dynamic_batching {{
  preferred_batch_size: [ 4, {batch} ]
  max_queue_delay_microseconds: 3000
}}
instance_group [ {{ count: 1 kind: KIND_GPU }} ]

optimization {{
  execution_accelerators {{
    gpu_execution_accelerator: [ {{
      name: "tensorrt"
      parameters {{ key: "precision_mode" value: "FP16" }}
      # Layer norms overflow in 16 bits.
      parameters {{ key: "trt_layer_norm_fp32_fallback" value: "1" }}
      parameters {{ key: "max_workspace_size_bytes" value: "2147483648" }}
      parameters {{ key: "trt_engine_cache_enable" value: "1" }}
      parameters {{ key: "trt_engine_cache_path" value: "{engines}/{engine}" }}
      parameters {{ key: "trt_timing_cache_enable" value: "1" }}
      parameters {{ key: "trt_timing_cache_path" value: "{engines}/{engine}" }}
      # One engine for every batch from 1 to {batch}: nothing is built while photos wait.
      parameters {{ key: "trt_profile_min_shapes" value: "images:1x{side}x{side}x3" }}
      parameters {{ key: "trt_profile_opt_shapes" value: "images:{batch}x{side}x{side}x3" }}
      parameters {{ key: "trt_profile_max_shapes" value: "images:{batch}x{side}x{side}x3" }}
    }} ]
  }}
}}

# The engine is built here, before Triton says that it is ready.
model_warmup [
  {warm_1},
  {warm_all}
]

# Lares reads these at its start.
parameters {{ key: "name" value {{ string_value: {name} }} }}
parameters {{ key: "digest" value {{ string_value: {digest} }} }}
parameters {{ key: "labels" value {{ string_value: {labels} }} }}
"""

WARMUP = """{{
    name: "batch of {batch}"
    batch_size: {batch}
    inputs {{ key: "images" value {{ data_type: TYPE_UINT8 dims: [ {side}, {side}, 3 ] random_data: true }} }}
  }}"""

README = """\
# {name}: a Triton model repository

RT-DETRv2, {side} x {side} pixels, {classes} classes, weights {digest}.
Written by `lares model export`; docs/models.md of Lares tells more.

    docker run --rm --gpus all -p 127.0.0.1:8001:8001 -v "$PWD:/models:ro" -v lares-engines:{engines} \\
        TRITON-IMAGE tritonserver --model-repository /models

TRITON-IMAGE: NVIDIA's Triton image with all backends (its tag ends in -py3). The first start builds a
TensorRT engine for your GPU before Triton says that it is ready: that takes minutes. The engine stays in the
volume `lares-engines` and belongs to this GPU, this driver and this image: after a change of one of them,
remove the volume.

Then, with Lares:

    lares model check --url triton://localhost:8001/{name}
    LARES_DETECTOR_URL=triton://localhost:8001/{name} lares up

Without TensorRT: remove the block `optimization` in config.pbtxt (CUDA runs it then); without a GPU also
change KIND_GPU to KIND_CPU. `{name}/1/model.onnx` alone serves `LARES_DETECTOR_URL=onnx:/path/to/model.onnx`.

| Tensor | Type | Shape | Meaning |
|---|---|---|---|
| `images` (in) | uint8 | [N, {side}, {side}, 3] | RGB, stretched to the square, bilinear |
| `scores` | float32 | [N, {queries}] | 0..1, best first |
| `labels` | int32 | [N, {queries}] | line of labels.txt, from 0 |
| `boxes` | float32 | [N, {queries}, 4] | x_min, y_min, x_max, y_max in 0..1 |
"""


def write_repository(checkpoint: Checkpoint, queries: int, folder: Path) -> Path:
    """Everything but the graph, whose path it gives back. `folder` becomes the repository."""
    model = folder / checkpoint.name
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(config(checkpoint, queries), encoding="utf-8")
    (model / "labels.txt").write_text("".join(f"{label}\n" for label in checkpoint.labels), encoding="utf-8")
    (folder / "README.md").write_text(readme(checkpoint, queries), encoding="utf-8")
    return model / "1" / "model.onnx"


def config(checkpoint: Checkpoint, queries: int) -> str:
    """config.pbtxt: the onnxruntime backend, TensorRT with FP16, batches of up to 8."""
    side = checkpoint.side
    return CONFIG.format(
        name=_quoted(checkpoint.name),
        # Engines of other weights have no place here.
        engine=f"{checkpoint.name}-{side}-{checkpoint.digest[:12]}",
        digest=_quoted(checkpoint.digest),
        labels=_quoted(json.dumps(checkpoint.labels)),
        side=side,
        queries=queries,
        batch=BATCH,
        engines=ENGINES,
        warm_1=WARMUP.format(batch=1, side=side),
        warm_all=WARMUP.format(batch=BATCH, side=side),
    )


def readme(checkpoint: Checkpoint, queries: int) -> str:
    return README.format(
        name=checkpoint.name,
        digest=checkpoint.digest,
        classes=len(checkpoint.labels),
        side=checkpoint.side,
        queries=queries,
        engines=ENGINES,
    )


def _quoted(text: str) -> str:
    # JSON's escapes are protobuf's too; json.dumps within has left no character beyond ASCII.
    return json.dumps(text)
