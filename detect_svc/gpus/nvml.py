"""What NVIDIA's driver tells of this machine's GPUs. It blocks, for seconds or for ever."""

import importlib
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from google.protobuf.timestamp_pb2 import Timestamp

from lares.detect.v1.detect_service_pb2 import Gpu, GpuSample

Value = TypeVar("Value")

PERCENT, MILLIWATTS = 100, 1000
# NVML's numbers for "unknown" lie beyond this.
MOST_BYTES = 2**63 - 1
# The GPU itself is gone, not just one of its values.
GONE = ("UNINITIALIZED", "DRIVER_NOT_LOADED", "GPU_IS_LOST", "RESET_REQUIRED", "LIB_RM_VERSION_MISMATCH")


class NoGpu(Exception):
    """There is none, or no driver: a normal state. Says which."""


class Nvml(Protocol):
    """The part of the module `pynvml` (of nvidia-ml-py) that is used, beside its NVML_ERROR_* numbers."""

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
    """The real one. It loads the driver's library only when it is initialised."""
    return cast(Nvml, importlib.import_module("pynvml"))


class NvmlReader:
    """One session with the driver, begun anew after a failure. Not for concurrent use."""

    def __init__(self, load: Callable[[], Nvml] = load_nvml, clock: Callable[[], float] = time.time) -> None:
        self._load, self._clock = load, clock
        self._nvml: Nvml | None = None

    def read(self) -> list[Gpu]:
        """Every GPU that answers, with its sample of now; what a GPU does not tell is absent.

        Raises NoGpu, and NVMLError where the driver, or every single GPU, is lost.
        """
        nvml = self._nvml or self._load()
        try:
            if self._nvml is None:
                nvml.nvmlInit()
                self._nvml = nvml
            return self._gpus(nvml)
        except nvml.NVMLError as error:
            self._end(nvml)
            why = _without_driver(nvml, error)
            raise NoGpu(why) if why else error from None

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
            raise NoGpu("the driver knows no GPU")
        return gpus

    def _gpu(self, nvml: Nvml, index: int) -> Gpu:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = _told(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        load = _told(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        milliwatts = _told(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        sample = GpuSample(
            at=_stamp(self._clock()),
            utilization=None if load is None or load > PERCENT else load / PERCENT,
            memory_used_bytes=memory.used if memory and memory.used <= MOST_BYTES else None,
            temperature_celsius=_told(
                nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
            ),
            power_watts=None if milliwatts is None else milliwatts / MILLIWATTS,
        )
        return Gpu(
            index=index,
            uuid=_told(nvml, lambda: nvml.nvmlDeviceGetUUID(handle)) or "",
            name=_told(nvml, lambda: nvml.nvmlDeviceGetName(handle)) or "",
            memory_total_bytes=memory.total if memory and memory.total <= MOST_BYTES else 0,
            now=sample,
        )

    def _end(self, nvml: Nvml) -> None:
        if self._nvml is None:
            return
        self._nvml = None
        try:
            nvml.nvmlShutdown()
        except nvml.NVMLError:
            return  # it is gone already


def _told(nvml: Nvml, ask: Callable[[], Value]) -> Value | None:
    """None for what this GPU, or its MIG or vGPU mode, does not tell. Raises NVMLError where it is gone."""
    try:
        return ask()
    except nvml.NVMLError as error:
        if _is(nvml, error, *GONE):
            raise
        return None


def _without_driver(nvml: Nvml, error: Exception) -> str:
    if _is(nvml, error, "LIBRARY_NOT_FOUND"):
        return "there is no NVIDIA driver here"
    return "the NVIDIA driver is not loaded" if _is(nvml, error, "DRIVER_NOT_LOADED") else ""


def _is(nvml: Nvml, error: Exception, *names: str) -> bool:
    return getattr(error, "value", None) in {getattr(nvml, f"NVML_ERROR_{name}") for name in names}


def _stamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMilliseconds(round(seconds * 1000))
    return stamp
