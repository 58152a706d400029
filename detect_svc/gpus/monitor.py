"""The GPUs of this machine, read every few seconds in a thread of its own, with the samples of the last hour.

A driver that is lost or hangs does not affect detection: its error becomes `detail`, and reading is retried.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread

import structlog

from detect_svc.gpus.nvml import NoGpu
from lares.detect.v1.detect_service_pb2 import Gpu, GpuSample, ListGpusResponse

log = structlog.get_logger(__name__)

SAMPLE_SECONDS, RETRY_SECONDS = 5.0, 60.0
# A driver that no other program keeps loaded takes seconds to start.
READ_SECONDS = 15.0
HISTORY_MINUTES = 60
HISTORY_SAMPLES = round(HISTORY_MINUTES * 60 / SAMPLE_SECONDS)

ReadGpus = Callable[[], list[Gpu]]


class GpuMonitor:
    """`read` is blocking. It returns every GPU with its current sample, and raises NoGpu on a machine that
    has none."""

    def __init__(self, read: ReadGpus, read_seconds: float = READ_SECONDS) -> None:
        self._read, self._read_seconds = read, read_seconds
        self._gpus: list[Gpu] = []
        self._detail = "not read yet"
        self._history: dict[str, deque[GpuSample]] = {}
        self._pending_read: asyncio.Future[list[Gpu] | Exception] | None = None

    def gpus(self, minutes: int = 0) -> ListGpusResponse:
        """The GPUs as of the last reading, with the samples of the last `minutes`."""
        response = ListGpusResponse(gpus=self._gpus, detail=self._detail)
        for gpu in response.gpus if minutes else ():
            since = gpu.now.at.seconds - minutes * 60
            gpu.history.extend(sample for sample in self._history[_key(gpu)] if sample.at.seconds >= since)
        return response

    async def run(self) -> None:
        """Reads until cancelled."""
        try:
            while True:
                pause = SAMPLE_SECONDS if await self.sample() else RETRY_SECONDS
                await asyncio.sleep(pause)
        finally:
            if self._pending_read:
                self._pending_read.cancel()

    async def sample(self) -> bool:
        """Reads once. Returns whether there is a GPU that could be read."""
        # If the previous reading still hangs, this waits for it instead of starting a second one.
        self._pending_read = self._pending_read or asyncio.wrap_future(_read_in_thread(self._read))
        done, _ = await asyncio.wait([self._pending_read], timeout=self._read_seconds)
        if not done:
            return self._record_error("the driver does not answer")
        result, self._pending_read = self._pending_read.result(), None
        if isinstance(result, Exception):
            error = str(result) or type(result).__name__
            return self._record_error(error, is_normal=isinstance(result, NoGpu))
        self._record(result)
        return True

    def _record(self, gpus: list[Gpu]) -> None:
        if self._detail or len(gpus) != len(self._gpus):
            log.info("GPUs found", names=[gpu.name for gpu in gpus])
        self._gpus, self._detail = gpus, ""
        for gpu in gpus:
            self._history.setdefault(_key(gpu), deque(maxlen=HISTORY_SAMPLES)).append(gpu.now)
        oldest = max(gpu.now.at.seconds for gpu in gpus) - HISTORY_MINUTES * 60
        for key in [key for key, samples in self._history.items() if samples[-1].at.seconds < oldest]:
            del self._history[key]

    def _record_error(self, detail: str, *, is_normal: bool = False) -> bool:
        if detail != self._detail:
            (log.info if is_normal else log.warning)("no GPU available", reason=detail)
        self._gpus, self._detail = [], detail
        return False


def _key(gpu: Gpu) -> str:
    return gpu.uuid or str(gpu.index)


def _read_in_thread(read: ReadGpus) -> "Future[list[Gpu] | Exception]":
    """Uses a daemon thread, not a pool: the driver may never return, and the process must still be able to
    exit."""
    result: Future[list[Gpu] | Exception] = Future()

    def work() -> None:
        if not result.set_running_or_notify_cancel():
            return
        try:
            result.set_result(read())
        except Exception as error:
            result.set_result(error)

    Thread(target=work, name="gpu", daemon=True).start()
    return result
