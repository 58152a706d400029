"""FakeNvml: a fake of the module `pynvml`, with devices that the test defines and pynvml's own errors."""

from collections import Counter
from dataclasses import dataclass, field
from threading import Event
from types import SimpleNamespace
from typing import Any

import pynvml  # type: ignore[import-untyped]

GIB = 2**30


@dataclass
class FakeDevice:
    """`failing` maps a function's name without `nvmlDeviceGet` to the error that it raises for this
    device."""

    uuid: str = "GPU-1"
    name: str = "NVIDIA Fake"
    used: int = 3 * GIB
    total: int = 24 * GIB
    load: int = 37
    celsius: int = 61
    milliwatts: int = 212_345
    failing: dict[str, Exception] = field(default_factory=dict)


class FakeNvml:
    """The constants are the real ones; the functions read `devices`.

    `failing` maps the whole name of a function that takes no device to the error that it raises. While `gate`
    is closed, nvmlDeviceGetCount does not return.
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
        raise AttributeError(f"FakeNvml has no {name}")

    def _enter(self, name: str, *, needs_session: bool = True) -> None:
        self.calls[name] += 1
        if error := self.failing.get(name):
            raise error
        if needs_session and not self.sessions:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)

    def nvmlInit(self) -> None:
        self._enter("nvmlInit", needs_session=False)
        self.sessions += 1

    def nvmlShutdown(self) -> None:
        self._enter("nvmlShutdown")
        self.sessions -= 1

    def nvmlDeviceGetCount(self) -> int:
        self.gate.wait(90)
        self._enter("nvmlDeviceGetCount")
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeDevice:
        self._enter("nvmlDeviceGetHandleByIndex")
        return self._checked(self.devices[index], "HandleByIndex")

    def nvmlDeviceGetUUID(self, handle: FakeDevice) -> str:
        return self._checked(handle, "UUID").uuid

    def nvmlDeviceGetName(self, handle: FakeDevice) -> str:
        return self._checked(handle, "Name").name

    def nvmlDeviceGetMemoryInfo(self, handle: FakeDevice) -> Any:
        device = self._checked(handle, "MemoryInfo")
        return SimpleNamespace(total=device.total, used=device.used, free=device.total - device.used)

    def nvmlDeviceGetUtilizationRates(self, handle: FakeDevice) -> Any:
        return SimpleNamespace(gpu=self._checked(handle, "UtilizationRates").load, memory=0)

    def nvmlDeviceGetTemperature(self, handle: FakeDevice, sensor: int) -> int:
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return self._checked(handle, "Temperature").celsius

    def nvmlDeviceGetPowerUsage(self, handle: FakeDevice) -> int:
        return self._checked(handle, "PowerUsage").milliwatts

    def _checked(self, device: FakeDevice, name: str) -> FakeDevice:
        if error := device.failing.get(name):
            raise error
        return device


def nvml_error(name: str) -> Exception:
    """pynvml's error with that name, such as `GPU_IS_LOST`."""
    error = pynvml.NVMLError(getattr(pynvml, f"NVML_ERROR_{name}"))
    assert isinstance(error, Exception)
    return error
