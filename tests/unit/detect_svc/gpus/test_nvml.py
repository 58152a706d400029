"""What is read from the driver: the real pynvml where there is no driver, a fake one for devices."""

from typing import Any

import pynvml  # type: ignore[import-untyped]
import pytest

from detect_svc.gpus.nvml import NoGpu, NvmlReader, load_nvml
from tests.support.nvml import GIB, FakeDevice, FakeNvml, refusal

VALUES = ("utilization", "memory_used_bytes", "temperature_celsius", "power_watts")


def told(gpu: Any) -> list[str]:
    """The values of its sample that are there."""
    return [value for value in VALUES if gpu.now.HasField(value)]


def test_the_fake_has_what_pynvml_has() -> None:
    faked = [name for name in vars(FakeNvml) if name.startswith("nvml")]
    assert len(faked) == 10
    assert all(callable(getattr(pynvml, name)) for name in faked)
    assert str(refusal("GPU_IS_LOST")) == "GPU is lost"
    assert type(refusal("LIBRARY_NOT_FOUND")) is pynvml.NVMLError_LibraryNotFound


def test_the_real_pynvml_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(*_: object) -> None:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    # Also on a machine that has one.
    monkeypatch.setattr(pynvml, "CDLL", no_library)
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    driver = NvmlReader()
    for _ in range(2):
        with pytest.raises(NoGpu, match="there is no NVIDIA driver here"):
            driver.read()
    assert load_nvml() is pynvml


def test_everything_of_a_gpu() -> None:
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


@pytest.mark.parametrize("why", ["NOT_SUPPORTED", "NO_PERMISSION", "FUNCTION_NOT_FOUND", "UNKNOWN"])
def test_what_a_gpu_does_not_tell_is_absent(why: str) -> None:
    names = ("UUID", "Name", "MemoryInfo", "UtilizationRates", "Temperature", "PowerUsage")
    (gpu,) = NvmlReader(lambda: FakeNvml(FakeDevice(failing={name: refusal(why) for name in names}))).read()
    assert (gpu.uuid, gpu.name, gpu.memory_total_bytes) == ("", "", 0)
    assert told(gpu) == []


def test_zero_is_a_value_and_nonsense_is_none() -> None:
    idle = FakeDevice(used=0, load=0, celsius=0, milliwatts=0)
    odd = FakeDevice(uuid="odd", total=2**64 - 1, used=2**64 - 1, load=2**32 - 1)
    first, second = NvmlReader(lambda: FakeNvml(idle, odd)).read()
    assert told(first) == list(VALUES)
    assert told(second) == ["temperature_celsius", "power_watts"]
    assert second.memory_total_bytes == 0


def test_one_session_for_many_readings() -> None:
    fake = FakeNvml(FakeDevice())
    driver = NvmlReader(lambda: fake)
    for _ in range(3):
        driver.read()
    assert (fake.calls["nvmlInit"], fake.calls["nvmlShutdown"]) == (1, 0)


@pytest.mark.parametrize("place", ["HandleByIndex", "Temperature"])
def test_a_lost_gpu_does_not_hide_the_others(place: str) -> None:
    fake = FakeNvml(FakeDevice(failing={place: refusal("GPU_IS_LOST")}), FakeDevice(uuid="GPU-2"))
    driver = NvmlReader(lambda: fake)
    assert [(gpu.index, gpu.uuid) for gpu in driver.read()] == [(1, "GPU-2")]
    assert fake.sessions == 1


def test_all_lost_is_an_error_and_the_next_reading_begins_anew() -> None:
    device = FakeDevice(failing={"HandleByIndex": refusal("GPU_IS_LOST")})
    fake = FakeNvml(device)
    driver = NvmlReader(lambda: fake)
    with pytest.raises(pynvml.NVMLError, match="GPU is lost"):
        driver.read()
    assert fake.sessions == 0
    device.failing.clear()
    assert len(driver.read()) == 1
    assert (fake.calls["nvmlInit"], fake.sessions) == (2, 1)


def test_a_driver_that_was_loaded_anew() -> None:
    fake = FakeNvml(FakeDevice())
    driver = NvmlReader(lambda: fake)
    driver.read()
    fake.failing = {"nvmlDeviceGetCount": refusal("UNKNOWN"), "nvmlShutdown": refusal("UNINITIALIZED")}
    with pytest.raises(pynvml.NVMLError, match="Unknown Error"):
        driver.read()
    fake.failing = {"nvmlInit": refusal("DRIVER_NOT_LOADED")}
    with pytest.raises(NoGpu, match="not loaded"):
        driver.read()
    fake.failing.clear()
    assert len(driver.read()) == 1


def test_a_driver_without_any_gpu() -> None:
    with pytest.raises(NoGpu, match="knows no GPU"):
        NvmlReader(FakeNvml).read()
