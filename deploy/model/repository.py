"""Writes a Triton model repository for one fused model, with a README for its operator."""

import json
from pathlib import Path

from deploy.model.checkpoint import Checkpoint

BATCH = 8
# The folder in which TensorRT stores its engines. The README mounts a volume there.
ENGINES = "/engines"

CONFIG = """\
# RT-DETRv2 with its pre- and post-processing. Written by `lares model export`.
name: {name}
backend: "onnxruntime"
max_batch_size: {batch}

input [ {{ name: "images" data_type: TYPE_UINT8 dims: [ {side}, {side}, 3 ] }} ]
output [
  {{ name: "scores" data_type: TYPE_FP32 dims: [ {queries} ] }},
  {{ name: "labels" data_type: TYPE_INT32 dims: [ {queries} ] }},
  {{ name: "boxes" data_type: TYPE_FP32 dims: [ {queries}, 4 ] }}
]

# No default_queue_policy: with one instance some requests would wait half a second in an idle queue.
# Lares limits its requests in flight instead.
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
      # One engine for all batches from 1 to {batch}, so that none is built while photos wait.
      parameters {{ key: "trt_profile_min_shapes" value: "images:1x{side}x{side}x3" }}
      parameters {{ key: "trt_profile_opt_shapes" value: "images:{batch}x{side}x{side}x3" }}
      parameters {{ key: "trt_profile_max_shapes" value: "images:{batch}x{side}x{side}x3" }}
    }} ]
  }}
}}

# The engine is built during the warm-up, before Triton is ready.
model_warmup [
  {warm_1},
  {warm_all}
]

# Lares reads these parameters when it starts.
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
Written by `lares model export`. See docs/models.md of Lares for more.

    docker run --rm --gpus all -p 127.0.0.1:8001:8001 -v "$PWD:/models:ro" -v lares-engines:{engines} \\
        TRITON-IMAGE tritonserver --model-repository /models

TRITON-IMAGE is NVIDIA's Triton image with all backends (its tag ends in -py3). The first start builds a
TensorRT engine for your GPU before Triton is ready, which takes minutes. The engine is stored in the volume
`lares-engines` and works only with this GPU, driver and image: remove the volume after changing one of them.

Then use it with Lares:

    lares model check --url triton://localhost:8001/{name}
    LARES_DETECTOR_URL=triton://localhost:8001/{name} lares up

To run it without TensorRT, remove the block `optimization` in config.pbtxt: CUDA runs the model then. Without
a GPU, also change KIND_GPU to KIND_CPU. `LARES_DETECTOR_URL=onnx:/path/to/model.onnx` needs only the file
`{name}/1/model.onnx`.

| Tensor | Type | Shape | Meaning |
|---|---|---|---|
| `images` (in) | uint8 | [N, {side}, {side}, 3] | RGB, stretched to the square, bilinear |
| `scores` | float32 | [N, {queries}] | 0..1, best first |
| `labels` | int32 | [N, {queries}] | line of labels.txt, from 0 |
| `boxes` | float32 | [N, {queries}, 4] | x_min, y_min, x_max, y_max in 0..1 |
"""


def write_repository(checkpoint: Checkpoint, queries: int, folder: Path) -> Path:
    """Writes everything but the graph into `folder`, and returns the path for the graph."""
    model = folder / checkpoint.name
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(config(checkpoint, queries), encoding="utf-8")
    (model / "labels.txt").write_text("".join(f"{label}\n" for label in checkpoint.labels), encoding="utf-8")
    (folder / "README.md").write_text(readme(checkpoint, queries), encoding="utf-8")
    return model / "1" / "model.onnx"


def config(checkpoint: Checkpoint, queries: int) -> str:
    """The content of config.pbtxt: the onnxruntime backend, TensorRT with FP16, batches of up to 8."""
    side = checkpoint.side
    return CONFIG.format(
        name=_quoted(checkpoint.name),
        # A folder for each set of weights: engines of other weights must not be used.
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
    # JSON's escapes are valid in protobuf's text format, and json.dumps returns only ASCII.
    return json.dumps(text)
