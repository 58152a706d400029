"""The monitor: its bounded history, and drivers that are missing, fail or hang."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from detect_svc.gpus.monitor import HISTORY_SAMPLES, GpuMonitor
from detect_svc.gpus.nvml import NvmlReader
from lares.detect.v1.detect_service_pb2 import Gpu
from tests.support.nvml import FakeDevice, FakeNvml, nvml_error


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def fake() -> Iterator[FakeNvml]:
    fake = FakeNvml(FakeDevice())
    yield fake
    fake.gate.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def monitor(fake: FakeNvml, clock: Clock) -> GpuMonitor:
    return GpuMonitor(NvmlReader(lambda: fake, clock).read, read_seconds=60)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "gpu"]


async def test_before_the_first_reading(monitor: GpuMonitor) -> None:
    response = monitor.gpus(60)
    assert (list(response.gpus), response.detail) == ([], "not read yet")


async def test_the_history_has_the_requested_minutes_oldest_first(
    monitor: GpuMonitor, fake: FakeNvml, clock: Clock
) -> None:
    for second in range(0, 300, 20):
        clock.now = 1_700_000_000 + second
        fake.devices[0].celsius = second
        assert await monitor.sample()
    (gpu,) = monitor.gpus().gpus
    assert (gpu.now.temperature_celsius, list(gpu.history)) == (280, [])
    (gpu,) = monitor.gpus(2).gpus
    assert [sample.temperature_celsius for sample in gpu.history] == [160, 180, 200, 220, 240, 260, 280]
    assert monitor.gpus(60).detail == ""
    assert len(monitor.gpus(60).gpus[0].history) == 15


async def test_the_history_is_bounded(clock: Clock) -> None:
    monitor = GpuMonitor(lambda: [])
    for second in range(HISTORY_SAMPLES + 100):
        gpu = Gpu(uuid="GPU-1")
        gpu.now.at.seconds = second
        monitor._record([gpu])
    samples = monitor.gpus(60).gpus[0].history
    assert [samples[0].at.seconds, len(samples)] == [100, HISTORY_SAMPLES]


async def test_the_history_of_a_gpu_that_is_gone_for_an_hour_is_dropped(
    monitor: GpuMonitor, fake: FakeNvml, clock: Clock
) -> None:
    for index in range(50):
        fake.devices[0].uuid = f"MIG-{index}"
        await monitor.sample()
        clock.now += 600
    assert list(monitor._history) == [f"MIG-{index}" for index in range(43, 50)]


async def test_a_missing_driver_is_logged_once_and_is_not_a_warning(
    monitor: GpuMonitor, fake: FakeNvml
) -> None:
    fake.failing["nvmlInit"] = nvml_error("LIBRARY_NOT_FOUND")
    with capture_logs() as logs:
        for _ in range(3):
            assert not await monitor.sample()
    assert [(line["log_level"], line["reason"]) for line in logs] == [
        ("info", "no NVIDIA driver is installed")
    ]
    response = monitor.gpus(60)
    assert (list(response.gpus), response.detail) == ([], "no NVIDIA driver is installed")


async def test_a_lost_gpu_is_reported_and_returns_with_its_history(
    monitor: GpuMonitor, fake: FakeNvml
) -> None:
    await monitor.sample()
    fake.devices[0].failing["HandleByIndex"] = nvml_error("GPU_IS_LOST")
    with capture_logs() as logs:
        for _ in range(3):
            assert not await monitor.sample()
        assert monitor.gpus().detail == "GPU is lost"
        assert not monitor.gpus().gpus
        fake.devices[0].failing.clear()
        assert await monitor.sample()
    assert [line["log_level"] for line in logs] == ["warning", "info"]
    assert len(monitor.gpus(60).gpus[0].history) == 2
    assert monitor.gpus().detail == ""


async def test_any_error_while_reading_is_reported() -> None:
    def broken() -> list[Gpu]:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "not a name")

    monitor = GpuMonitor(broken)
    assert not await monitor.sample()
    assert "not a name" in monitor.gpus().detail


async def test_a_driver_that_hangs_blocks_nothing_and_is_read_once(fake: FakeNvml) -> None:
    monitor = GpuMonitor(NvmlReader(lambda: fake).read, read_seconds=0.01)
    fake.gate.clear()
    before = len(readers())
    for _ in range(3):
        assert not await monitor.sample()
    assert monitor.gpus().detail == "the driver does not answer"
    assert (len(readers()) - before, fake.calls["nvmlInit"]) == (1, 1)
    assert all(thread.daemon for thread in readers()), "the process could not exit"
    fake.gate.set()
    async with asyncio.timeout(90):
        while not await monitor.sample():
            pass
    assert [gpu.uuid for gpu in monitor.gpus().gpus] == ["GPU-1"]


async def test_run_can_be_cancelled_while_the_driver_hangs(
    monitor: GpuMonitor, fake: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detect_svc.gpus.monitor.SAMPLE_SECONDS", 0.0)
    running = asyncio.create_task(monitor.run())
    async with asyncio.timeout(90):
        while len(monitor.gpus(60).gpus) == 0 or len(monitor.gpus(60).gpus[0].history) < 3:
            await asyncio.sleep(0)
        fake.gate.clear()
        while monitor._pending_read is None:
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    pending = monitor._pending_read
    assert pending is not None
    assert pending.cancelled()
