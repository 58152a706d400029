"""A fused RT-DETRv2 in ONNX Runtime. Runs in a sandbox's child only."""

import os
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import onnxruntime

from detect_svc.detectors.model_metadata import (
    ANY,
    INPUT,
    OUTPUTS,
    TensorSpec,
    UnsupportedModel,
    read_metadata,
)
from detect_svc.detectors.photo_input import Input
from detect_svc.detectors.rtdetr_input import square_input
from mesh.processes.sandbox_child import InputRefused

DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int32)": "int32"}
ERRORS_ONLY = 3


def load(
    model: str, provider: str, threads: int, max_pixels: int, engines: str
) -> Callable[[Input], dict[str, Any]]:
    """The sandbox's target. Returns a function of an Input, which returns the raw outputs, or the model's
    metadata for "".

    `engines` is the folder in which TensorRT stores the engines that it builds. Raises InputRefused
    MODEL_DOES_NOT_FIT and BAD_SETTING; the function raises what `square_input` raises.
    """
    cv2.setNumThreads(1)
    session = _open_session(model, provider, threads, engines)
    tensors = {node.name: _spec(node) for node in (*session.get_inputs(), *session.get_outputs())}
    try:
        metadata = read_metadata(tensors, session.get_modelmeta().custom_metadata_map)
    except UnsupportedModel as error:
        raise InputRefused(f"{model} does not fit: {error}", "MODEL_DOES_NOT_FIT") from None
    # TensorRT builds its engines during the first call, and must do so while this process may write files.
    session.run(OUTPUTS, {INPUT: np.zeros((1, metadata.side, metadata.side, 3), np.uint8)})
    has_failed = False

    def detect(photo: Input) -> dict[str, Any]:
        nonlocal has_failed
        if photo == "":
            return {"metadata": [metadata.name, metadata.digest, metadata.labels, metadata.side]}
        if has_failed:
            os._exit(1)  # after one failure an accelerator fails until its process ends
        pixels, width, height = square_input(photo, metadata.side, max_pixels)
        try:
            outputs = session.run(OUTPUTS, {INPUT: pixels[None]})
        except Exception as error:
            has_failed = True
            return {"error": f"{type(error).__name__}: {error}"}
        return {
            "outputs": [np.ascontiguousarray(output[0]).tobytes() for output in outputs],
            "width": width,
            "height": height,
        }

    return detect


def _open_session(model: str, provider: str, threads: int, engines: str) -> onnxruntime.InferenceSession:
    available = onnxruntime.get_available_providers()
    providers = _providers(engines)[provider]
    name = providers[0][0]
    if name not in available:
        raise InputRefused(
            f"LARES_DETECTOR_URL: provider={provider}: this ONNX Runtime does not have {name}, "
            f"only {', '.join(available)}; install onnxruntime-gpu instead of onnxruntime",
            "BAD_SETTING",
        )
    if provider != "cpu":
        onnxruntime.preload_dlls()  # CUDA libraries that pip installed are on no search path
    if not os.path.isfile(model):
        raise InputRefused(f"LARES_DETECTOR_URL: there is no file {model}", "BAD_SETTING")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.use_deterministic_compute = True
    options.log_severity_level = ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:
        raise InputRefused(
            f"LARES_DETECTOR_URL: {model} cannot be loaded: {str(error)[:300]}", "BAD_SETTING"
        ) from None
    if session.get_providers()[0] != name:  # ONNX Runtime silently falls back to the next provider
        raise InputRefused(
            f"LARES_DETECTOR_URL: provider={provider}: {name} does not start here; is its driver installed?",
            "BAD_SETTING",
        )
    return session


def _providers(engines: str) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """By option, the preferred one first. TensorRT has the options that docs/models.md gives it under
    Triton."""
    cpu: list[tuple[str, dict[str, Any]]] = [("CPUExecutionProvider", {})]
    cuda = [("CUDAExecutionProvider", {}), *cpu]
    tensorrt = {
        "trt_fp16_enable": True,
        "trt_layer_norm_fp32_fallback": True,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": engines,
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": engines,
    }
    return {"cpu": cpu, "cuda": cuda, "tensorrt": [("TensorrtExecutionProvider", tensorrt), *cuda]}


def _spec(node: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else ANY for size in node.shape)
    return TensorSpec(DTYPES.get(node.type, node.type), shape)
