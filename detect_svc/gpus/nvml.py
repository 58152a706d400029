"""Reads this machine's GPUs from NVIDIA's driver. Calls may block for seconds, or never return."""

import importlib
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from google.protobuf.timestamp_pb2 import Timestamp

from lares.detect.v1.detect_service_pb2 import Gpu, GpuSample

Value = TypeVar("Value")

PERCENT, MILLIWATTS = 100, 1000
# NVML's values for "unknown" are greater.
MAX_BYTES = 2**63 - 1
# Errors of the GPU or the driver itself, not of one value.
LOST = ("UNINITIALIZED", "DRIVER_NOT_LOADED", "GPU_IS_LOST", "RESET_REQUIRED", "LIB_RM_VERSION_MISMATCH")


class NoGpu(Exception):
    """There is no GPU, or no driver, which is a normal state. The message says which."""


class Nvml(Protocol):
    """The part of the module `pynvml` (of nvidia-ml-py) that is used, except its NVML_ERROR_* numbers."""

    NVMLError: type[Exception]
    NVML_TEMPERATURE_GPU: int

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...
    def nvmlDeviceGetUUID(self, handle: Any) -> str: ...
    def nvmlDeviceGetName(self, handle: Any) -> str: ...
    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...
    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any: ...
    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int: ...
    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int: ...


def load_nvml() -> Nvml:
    """The real module. It loads the driver's library only in nvmlInit."""
    return cast(Nvml, importlib.import_module("pynvml"))


class NvmlReader:
    """Holds a session with the driver, and opens a new one after a failure. Not for concurrent use."""

    def __init__(self, load: Callable[[], Nvml] = load_nvml, clock: Callable[[], float] = time.time) -> None:
        self._load, self._clock = load, clock
        self._nvml: Nvml | None = None

    def read(self) -> list[Gpu]:
        """Every GPU that can be read, with its current sample. Values that a GPU does not provide are absent.

        Raises NoGpu, and NVMLError if the driver or every GPU is lost.
        """
        nvml = self._nvml or self._load()
        try:
            if self._nvml is None:
                nvml.nvmlInit()
                self._nvml = nvml
            return self._gpus(nvml)
        except nvml.NVMLError as error:
            self._shut_down(nvml)
            missing = _missing_driver(nvml, error)
            raise NoGpu(missing) if missing else error from None

    def _gpus(self, nvml: Nvml) -> list[Gpu]:
        gpus: list[Gpu] = []
        lost: Exception | None = None
        count = nvml.nvmlDeviceGetCount()
        for index in range(count):
            try:
                gpus.append(self._gpu(nvml, index))
            except nvml.NVMLError as error:
                lost = error
        if lost and not gpus:
            raise lost
        if not count:
            raise NoGpu("the NVIDIA driver reports no GPU")
        return gpus

    def _gpu(self, nvml: Nvml, index: int) -> Gpu:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = _optional(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        load = _optional(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        milliwatts = _optional(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        sample = GpuSample(
            at=_timestamp(self._clock()),
            utilization=None if load is None or load > PERCENT else load / PERCENT,
            memory_used_bytes=memory.used if memory and memory.used <= MAX_BYTES else None,
            temperature_celsius=_optional(
                nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
            ),
            power_watts=None if milliwatts is None else milliwatts / MILLIWATTS,
        )
        return Gpu(
            index=index,
            uuid=_optional(nvml, lambda: nvml.nvmlDeviceGetUUID(handle)) or "",
            name=_optional(nvml, lambda: nvml.nvmlDeviceGetName(handle)) or "",
            memory_total_bytes=memory.total if memory and memory.total <= MAX_BYTES else 0,
            now=sample,
        )

    def _shut_down(self, nvml: Nvml) -> None:
        if self._nvml is None:
            return
        self._nvml = None
        try:
            nvml.nvmlShutdown()
        except nvml.NVMLError:
            return  # the driver is gone already


def _optional(nvml: Nvml, read: Callable[[], Value]) -> Value | None:
    """None if this GPU, or its MIG or vGPU mode, does not provide the value. Raises NVMLError if it is
    lost."""
    try:
        return read()
    except nvml.NVMLError as error:
        if _has_code(nvml, error, *LOST):
            raise
        return None


def _missing_driver(nvml: Nvml, error: Exception) -> str:
    """Why there is no driver; empty for any other error."""
    if _has_code(nvml, error, "LIBRARY_NOT_FOUND"):
        return "no NVIDIA driver is installed"
    return "the NVIDIA driver is not loaded" if _has_code(nvml, error, "DRIVER_NOT_LOADED") else ""


def _has_code(nvml: Nvml, error: Exception, *names: str) -> bool:
    return getattr(error, "value", None) in {getattr(nvml, f"NVML_ERROR_{name}") for name in names}


def _timestamp(seconds: float) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMilliseconds(round(seconds * 1000))
    return timestamp
