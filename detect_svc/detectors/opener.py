"""The detector, as soon as it is there."""

import asyncio
import random
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import structlog

from detect_svc.detectors.detector import Detector, DetectorNotReady
from detect_svc.detectors.factory import open_detector
from mesh.config import Config
from mesh.problems import Unavailable

log = structlog.get_logger(__name__)

SHORTEST_SECONDS, LONGEST_SECONDS = 0.5, 10.0


class DetectorOpener:
    """Opens the detector that LARES_DETECTOR_URL names.

    Whose Triton comes up later than Lares wants the rest of Lares at once: then this waits, as long as it
    takes, photos stay in the log, and readiness says why. What waiting cannot mend (a setting, a model that
    does not fit) is an error: it stops the start, and later the process.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stack = AsyncExitStack()
        self._detector: Detector | None = None
        self._why: Unavailable = DetectorNotReady("the detector has not been opened yet", "DETECTOR_AWAY")

    async def __aenter__(self) -> Self:
        """Tries once. Raises Invalid."""
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def is_there(self) -> bool:
        return self._detector is not None

    def detector(self) -> Detector:
        """Raises Unavailable until it is there."""
        if self._detector is None:
            raise self._why
        return self._detector

    async def check(self) -> None:
        await self.detector().check()

    async def until_there(self) -> Detector:
        """Tries until it succeeds, less and less often. Raises Invalid."""
        pause = SHORTEST_SECONDS
        while self._detector is None:
            log.warning("detector not there yet", error=self._why.message)
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311
            pause = min(LONGEST_SECONDS, 2 * pause)
            await self._open()
        return self._detector

    async def _open(self) -> None:
        async with AsyncExitStack() as stack:
            try:
                detector = await stack.enter_async_context(open_detector(self._config))
            except DetectorNotReady as away:
                self._why = away
                return
            self._stack = stack.pop_all()
            self._detector = detector
