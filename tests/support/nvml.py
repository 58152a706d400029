"""FakeNvml: NVML as pynvml speaks it, over devices that a test makes up; its errors are pynvml's own."""

from collections import Counter
from dataclasses import dataclass, field
from threading import Event
from types import SimpleNamespace
from typing import Any

import pynvml  # type: ignore[import-untyped]

GIB = 2**30


@dataclass
class FakeDevice:
    """`failing`: what a function's calls raise, by its name without `nvmlDeviceGet`."""

    uuid: str = "GPU-1"
    name: str = "NVIDIA Fake"
    used: int = 3 * GIB
    total: int = 24 * GIB
    load: int = 37
    celsius: int = 61
    milliwatts: int = 212_345
    failing: dict[str, Exception] = field(default_factory=dict)


class FakeNvml:
    """As the module `pynvml`: the numbers are the real ones, the functions ask `devices`.

    `failing` by function's whole name, for calls that belong to no device. While `gate` is closed,
    nvmlDeviceGetCount does not return.
    """

    def __init__(self, *devices: FakeDevice) -> None:
        self.devices = list(devices)
        self.failing: dict[str, Exception] = {}
        self.calls: Counter[str] = Counter()
        self.sessions = 0
        self.gate = Event()
        self.gate.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(pynvml, name) if name.startswith("NVML") else self._missing(name)

    def _missing(self, name: str) -> Any:
        raise AttributeError(f"{name}: nobody has faked this")

    def _entered(self, name: str, *, session: bool = True) -> None:
        self.calls[name] += 1
        if error := self.failing.get(name):
            raise error
        if session and not self.sessions:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)

    def nvmlInit(self) -> None:
        self._entered("nvmlInit", session=False)
        self.sessions += 1

    def nvmlShutdown(self) -> None:
        self._entered("nvmlShutdown")
        self.sessions -= 1

    def nvmlDeviceGetCount(self) -> int:
        self.gate.wait(90)
        self._entered("nvmlDeviceGetCount")
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeDevice:
        self._entered("nvmlDeviceGetHandleByIndex")
        return self._of(self.devices[index], "HandleByIndex")

    def nvmlDeviceGetUUID(self, handle: FakeDevice) -> str:
        return self._of(handle, "UUID").uuid

    def nvmlDeviceGetName(self, handle: FakeDevice) -> str:
        return self._of(handle, "Name").name

    def nvmlDeviceGetMemoryInfo(self, handle: FakeDevice) -> Any:
        device = self._of(handle, "MemoryInfo")
        return SimpleNamespace(total=device.total, used=device.used, free=device.total - device.used)

    def nvmlDeviceGetUtilizationRates(self, handle: FakeDevice) -> Any:
        return SimpleNamespace(gpu=self._of(handle, "UtilizationRates").load, memory=0)

    def nvmlDeviceGetTemperature(self, handle: FakeDevice, sensor: int) -> int:
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return self._of(handle, "Temperature").celsius

    def nvmlDeviceGetPowerUsage(self, handle: FakeDevice) -> int:
        return self._of(handle, "PowerUsage").milliwatts

    def _of(self, device: FakeDevice, name: str) -> FakeDevice:
        if error := device.failing.get(name):
            raise error
        return device


def refusal(name: str) -> Exception:
    """pynvml's own error of that name: `GPU_IS_LOST`."""
    error = pynvml.NVMLError(getattr(pynvml, f"NVML_ERROR_{name}"))
    assert isinstance(error, Exception)
    return error
