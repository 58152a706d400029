"""The monitor: a bounded history, and drivers that are away, fail or hang."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from detect_svc.gpus.monitor import KEPT, GpuMonitor
from detect_svc.gpus.nvml import NvmlReader
from lares.detect.v1.detect_service_pb2 import Gpu
from tests.support.nvml import FakeDevice, FakeNvml, refusal


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
    return GpuMonitor(NvmlReader(lambda: fake, clock).read, patience=60)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "gpu"]


async def test_before_the_first_reading(monitor: GpuMonitor) -> None:
    answer = monitor.gpus(60)
    assert (list(answer.gpus), answer.detail) == ([], "not read yet")


async def test_the_history_is_what_was_asked_for_oldest_first(
    monitor: GpuMonitor, fake: FakeNvml, clock: Clock
) -> None:
    for second in range(0, 300, 20):
        clock.now = 1_700_000_000 + second
        fake.devices[0].celsius = second
        assert await monitor.sample()
    (gpu,) = monitor.gpus().gpus
    assert (gpu.now.temperature_celsius, list(gpu.history)) == (280, [])
    (gpu,) = monitor.gpus(2).gpus
    assert [one.temperature_celsius for one in gpu.history] == [160, 180, 200, 220, 240, 260, 280]
    assert monitor.gpus(60).detail == ""
    assert len(monitor.gpus(60).gpus[0].history) == 15


async def test_the_history_is_bounded(clock: Clock) -> None:
    monitor = GpuMonitor(lambda: [])
    for second in range(KEPT + 100):
        gpu = Gpu(uuid="GPU-1")
        gpu.now.at.seconds = second
        monitor._keep([gpu])
    samples = monitor.gpus(60).gpus[0].history
    assert [samples[0].at.seconds, len(samples)] == [100, KEPT]


async def test_a_gpu_that_is_gone_for_an_hour_is_forgotten(
    monitor: GpuMonitor, fake: FakeNvml, clock: Clock
) -> None:
    for index in range(50):
        fake.devices[0].uuid = f"MIG-{index}"
        await monitor.sample()
        clock.now += 600
    assert list(monitor._history) == [f"MIG-{index}" for index in range(43, 50)]


async def test_no_driver_is_told_once_and_is_no_warning(monitor: GpuMonitor, fake: FakeNvml) -> None:
    fake.failing["nvmlInit"] = refusal("LIBRARY_NOT_FOUND")
    with capture_logs() as logs:
        for _ in range(3):
            assert not await monitor.sample()
    assert [(line["log_level"], line["why"]) for line in logs] == [("info", "there is no NVIDIA driver here")]
    answer = monitor.gpus(60)
    assert (list(answer.gpus), answer.detail) == ([], "there is no NVIDIA driver here")


async def test_a_lost_gpu_is_a_detail_and_comes_back_with_its_history(
    monitor: GpuMonitor, fake: FakeNvml
) -> None:
    await monitor.sample()
    fake.devices[0].failing["HandleByIndex"] = refusal("GPU_IS_LOST")
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


async def test_any_failure_of_reading_is_a_detail() -> None:
    def broken() -> list[Gpu]:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a name that is none")

    monitor = GpuMonitor(broken)
    assert not await monitor.sample()
    assert "a name that is none" in monitor.gpus().detail


async def test_a_driver_that_hangs_holds_nothing_up_and_is_asked_once(fake: FakeNvml) -> None:
    monitor = GpuMonitor(NvmlReader(lambda: fake).read, patience=0.01)
    fake.gate.clear()
    before = len(readers())
    for _ in range(3):
        assert not await monitor.sample()
    assert monitor.gpus().detail == "the driver does not answer"
    assert (len(readers()) - before, fake.calls["nvmlInit"]) == (1, 1)
    assert all(thread.daemon for thread in readers()), "the process would wait for it at its end"
    fake.gate.set()
    async with asyncio.timeout(90):
        while not await monitor.sample():
            pass
    assert [gpu.uuid for gpu in monitor.gpus().gpus] == ["GPU-1"]


async def test_it_runs_by_itself_and_ends_while_the_driver_hangs(
    monitor: GpuMonitor, fake: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detect_svc.gpus.monitor.SAMPLE_SECONDS", 0.0)
    running = asyncio.create_task(monitor.run())
    async with asyncio.timeout(90):
        while len(monitor.gpus(60).gpus) == 0 or len(monitor.gpus(60).gpus[0].history) < 3:
            await asyncio.sleep(0)
        fake.gate.clear()
        while monitor._reading is None:
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    hung = monitor._reading
    assert hung is not None
    assert hung.cancelled()
