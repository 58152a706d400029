"""The GPUs of this machine: read every few seconds beside the event loop, kept for an hour.

Nothing here can hurt detection: a driver that is lost or hangs becomes a text, and is tried again later.
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
# A driver that nobody keeps loaded takes seconds to start.
PATIENCE_SECONDS = 15.0
KEPT_MINUTES = 60
KEPT = round(KEPT_MINUTES * 60 / SAMPLE_SECONDS)

Read = Callable[[], list[Gpu]]


class GpuMonitor:
    """`read` gives every GPU with its sample of now, blocking; it raises NoGpu where that is normal."""

    def __init__(self, read: Read, patience: float = PATIENCE_SECONDS) -> None:
        self._read, self._patience = read, patience
        self._gpus: list[Gpu] = []
        self._detail = "not read yet"
        self._history: dict[str, deque[GpuSample]] = {}
        self._reading: asyncio.Future[list[Gpu] | Exception] | None = None

    def gpus(self, minutes: int = 0) -> ListGpusResponse:
        """As of the last reading, with so many minutes of what was before."""
        answer = ListGpusResponse(gpus=self._gpus, detail=self._detail)
        for gpu in answer.gpus if minutes else ():
            since = gpu.now.at.seconds - minutes * 60
            gpu.history.extend(one for one in self._history[_key(gpu)] if one.at.seconds >= since)
        return answer

    async def run(self) -> None:
        """For ever."""
        try:
            while True:
                pause = SAMPLE_SECONDS if await self.sample() else RETRY_SECONDS
                await asyncio.sleep(pause)
        finally:
            if self._reading:
                self._reading.cancel()

    async def sample(self) -> bool:
        """Reads once; whether there was anything to read."""
        # One that hangs is waited for again, never doubled.
        self._reading = self._reading or asyncio.wrap_future(_beside(self._read))
        done, _ = await asyncio.wait([self._reading], timeout=self._patience)
        if not done:
            return self._none("the driver does not answer")
        result, self._reading = self._reading.result(), None
        if isinstance(result, Exception):
            return self._none(str(result) or type(result).__name__, normal=isinstance(result, NoGpu))
        self._keep(result)
        return True

    def _keep(self, gpus: list[Gpu]) -> None:
        if self._detail or len(gpus) != len(self._gpus):
            log.info("GPUs", names=[gpu.name for gpu in gpus])
        self._gpus, self._detail = gpus, ""
        for gpu in gpus:
            self._history.setdefault(_key(gpu), deque(maxlen=KEPT)).append(gpu.now)
        oldest = max(gpu.now.at.seconds for gpu in gpus) - KEPT_MINUTES * 60
        for key in [key for key, samples in self._history.items() if samples[-1].at.seconds < oldest]:
            del self._history[key]

    def _none(self, why: str, *, normal: bool = False) -> bool:
        if why != self._detail:
            (log.info if normal else log.warning)("no GPU to watch", why=why)
        self._gpus, self._detail = [], why
        return False


def _key(gpu: Gpu) -> str:
    return gpu.uuid or str(gpu.index)


def _beside(read: Read) -> "Future[list[Gpu] | Exception]":
    """In a thread of its own that the process does not wait for at its end: a driver may never return."""
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
