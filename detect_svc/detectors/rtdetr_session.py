"""The fused RT-DETRv2 on ONNX Runtime. Runs in a sandbox's child only."""

import os
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import onnxruntime

from detect_svc.detectors.model_metadata import (
    ANY,
    IMAGES,
    OUTPUTS,
    TensorSpec,
    UnsupportedModel,
    read_metadata,
)
from detect_svc.detectors.rtdetr_input import square_input
from mesh.processes.sandbox_child import InputRefused

DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int32)": "int32"}
ERRORS_ONLY = 3


def load(
    model: str, provider: str, threads: int, max_pixels: int, engines: str
) -> Callable[[bytes | str], dict[str, Any]]:
    """The sandbox's target: what it returns takes a photo's content, or the path where it lies; "" asks what
    model it is. `engines`: the folder where TensorRT keeps what it has built.

    Refuses to start with MODEL_DOES_NOT_FIT and BAD_SETTING; later what `square_input` refuses.
    """
    cv2.setNumThreads(1)
    session = _session(model, provider, threads, engines)
    said = session.get_modelmeta().custom_metadata_map
    try:
        card = read_metadata(
            {one.name: _tensor(one) for one in (*session.get_inputs(), *session.get_outputs())}, said
        )
    except UnsupportedModel as misfit:
        raise InputRefused(f"{model} does not fit: {misfit}", "MODEL_DOES_NOT_FIT") from None
    # Here, where files can still be written, engines are built; and the first photo need not wait.
    session.run(OUTPUTS, {IMAGES: np.zeros((1, card.side, card.side, 3), np.uint8)})
    broken = False

    def look(photo: bytes | str) -> dict[str, Any]:
        nonlocal broken
        if photo == "":
            return {"card": [card.name, card.digest, card.labels, card.side]}
        if broken:
            os._exit(1)  # an accelerator that failed once fails for ever in this process
        pixels, width, height = square_input(photo, card.side, max_pixels)
        try:
            raw = session.run(OUTPUTS, {IMAGES: pixels[None]})
        except Exception as error:
            broken = True
            return {"broken": f"{type(error).__name__}: {error}"}
        return {
            "raw": [np.ascontiguousarray(one[0]).tobytes() for one in raw],
            "width": width,
            "height": height,
        }

    return look


def _session(model: str, provider: str, threads: int, engines: str) -> onnxruntime.InferenceSession:
    available = onnxruntime.get_available_providers()
    wanted = _providers(engines)[provider]
    name = wanted[0][0]
    if name not in available:
        raise InputRefused(
            f"LARES_DETECTOR_URL: provider={provider}: this ONNX Runtime has no {name}, "
            f"only {', '.join(available)}; "
            "install onnxruntime-gpu in its place",
            "BAD_SETTING",
        )
    if provider != "cpu":
        onnxruntime.preload_dlls()  # what pip brought of CUDA lies on no search path
    if not os.path.isfile(model):
        raise InputRefused(f"LARES_DETECTOR_URL: there is no file {model}", "BAD_SETTING")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.use_deterministic_compute = True
    options.log_severity_level = ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(model, options, providers=wanted)
    except Exception as error:
        raise InputRefused(
            f"LARES_DETECTOR_URL: {model} cannot be loaded: {str(error)[:300]}", "BAD_SETTING"
        ) from None
    if session.get_providers()[0] != name:  # it falls back without a word
        raise InputRefused(
            f"LARES_DETECTOR_URL: provider={provider}: {name} does not start here; is its driver there?",
            "BAD_SETTING",
        )
    return session


def _providers(engines: str) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """By option, best first. TensorRT as docs/models.md configures it for Triton: FP16, engines kept."""
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


def _tensor(node: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else ANY for size in node.shape)
    return TensorSpec(DTYPES.get(node.type, node.type), shape)
