"""Reading the GPUs: with the real pynvml but no driver, and with a fake one that has devices."""

from typing import Any

import pynvml  # type: ignore[import-untyped]
import pytest

from detect_svc.gpus.nvml import NoGpu, NvmlReader, load_nvml
from tests.support.nvml import GIB, FakeDevice, FakeNvml, nvml_error

VALUES = ("utilization", "memory_used_bytes", "temperature_celsius", "power_watts")


def values_of(gpu: Any) -> list[str]:
    """The names of the values that its sample has."""
    return [value for value in VALUES if gpu.now.HasField(value)]


def test_the_fake_has_functions_that_pynvml_has() -> None:
    faked = [name for name in vars(FakeNvml) if name.startswith("nvml")]
    assert len(faked) == 10
    assert all(callable(getattr(pynvml, name)) for name in faked)
    assert str(nvml_error("GPU_IS_LOST")) == "GPU is lost"
    assert type(nvml_error("LIBRARY_NOT_FOUND")) is pynvml.NVMLError_LibraryNotFound


def test_the_real_pynvml_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(*_: object) -> None:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    # For machines that have one.
    monkeypatch.setattr(pynvml, "CDLL", no_library)
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    reader = NvmlReader()
    for _ in range(2):
        with pytest.raises(NoGpu, match="no NVIDIA driver is installed"):
            reader.read()
    assert load_nvml() is pynvml


def test_all_values_of_a_gpu() -> None:
    fake = FakeNvml(FakeDevice(), FakeDevice(uuid="GPU-2", load=100))
    first, second = NvmlReader(lambda: fake, clock=lambda: 1_700_000_000.25).read()
    assert (first.index, first.uuid, first.name, first.memory_total_bytes) == (
        0,
        "GPU-1",
        "NVIDIA Fake",
        24 * GIB,
    )
    assert first.now.at.ToJsonString() == "2023-11-14T22:13:20.250Z"
    assert first.now.utilization == pytest.approx(0.37)
    assert first.now.memory_used_bytes == 3 * GIB
    assert first.now.temperature_celsius == 61
    assert first.now.power_watts == pytest.approx(212.345)
    assert (second.index, second.uuid, second.now.utilization) == (1, "GPU-2", 1.0)


@pytest.mark.parametrize("error", ["NOT_SUPPORTED", "NO_PERMISSION", "FUNCTION_NOT_FOUND", "UNKNOWN"])
def test_values_that_a_gpu_does_not_provide_are_absent(error: str) -> None:
    names = ("UUID", "Name", "MemoryInfo", "UtilizationRates", "Temperature", "PowerUsage")
    (gpu,) = NvmlReader(
        lambda: FakeNvml(FakeDevice(failing={name: nvml_error(error) for name in names}))
    ).read()
    assert (gpu.uuid, gpu.name, gpu.memory_total_bytes) == ("", "", 0)
    assert values_of(gpu) == []


def test_zero_is_a_value_and_an_impossible_number_is_absent() -> None:
    idle = FakeDevice(used=0, load=0, celsius=0, milliwatts=0)
    odd = FakeDevice(uuid="odd", total=2**64 - 1, used=2**64 - 1, load=2**32 - 1)
    first, second = NvmlReader(lambda: FakeNvml(idle, odd)).read()
    assert values_of(first) == list(VALUES)
    assert values_of(second) == ["temperature_celsius", "power_watts"]
    assert second.memory_total_bytes == 0


def test_all_readings_share_one_session() -> None:
    fake = FakeNvml(FakeDevice())
    reader = NvmlReader(lambda: fake)
    for _ in range(3):
        reader.read()
    assert (fake.calls["nvmlInit"], fake.calls["nvmlShutdown"]) == (1, 0)


@pytest.mark.parametrize("function", ["HandleByIndex", "Temperature"])
def test_a_lost_gpu_does_not_hide_the_others(function: str) -> None:
    fake = FakeNvml(FakeDevice(failing={function: nvml_error("GPU_IS_LOST")}), FakeDevice(uuid="GPU-2"))
    reader = NvmlReader(lambda: fake)
    assert [(gpu.index, gpu.uuid) for gpu in reader.read()] == [(1, "GPU-2")]
    assert fake.sessions == 1


def test_if_all_gpus_are_lost_the_next_reading_opens_a_new_session() -> None:
    device = FakeDevice(failing={"HandleByIndex": nvml_error("GPU_IS_LOST")})
    fake = FakeNvml(device)
    reader = NvmlReader(lambda: fake)
    with pytest.raises(pynvml.NVMLError, match="GPU is lost"):
        reader.read()
    assert fake.sessions == 0
    device.failing.clear()
    assert len(reader.read()) == 1
    assert (fake.calls["nvmlInit"], fake.sessions) == (2, 1)


def test_a_driver_that_was_reloaded() -> None:
    fake = FakeNvml(FakeDevice())
    reader = NvmlReader(lambda: fake)
    reader.read()
    fake.failing = {"nvmlDeviceGetCount": nvml_error("UNKNOWN"), "nvmlShutdown": nvml_error("UNINITIALIZED")}
    with pytest.raises(pynvml.NVMLError, match="Unknown Error"):
        reader.read()
    fake.failing = {"nvmlInit": nvml_error("DRIVER_NOT_LOADED")}
    with pytest.raises(NoGpu, match="not loaded"):
        reader.read()
    fake.failing.clear()
    assert len(reader.read()) == 1


def test_a_driver_without_a_gpu() -> None:
    with pytest.raises(NoGpu, match="reports no GPU"):
        NvmlReader(FakeNvml).read()
