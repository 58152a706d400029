"""Opens the detector, as soon as that is possible."""

from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Self

from detect_svc.detectors.detector import Detector, DetectorNotReady
from detect_svc.detectors.factory import open_detector
from mesh.config import Config
from mesh.problems import Unavailable
from mesh.retry import Backoff, retry

BACKOFF = Backoff(0.5, 10.0)


class DetectorOpener:
    """Opens the detector that LARES_DETECTOR_URL names, and keeps it open until the block ends.

    If Triton starts later than Lares, the rest of Lares starts without it: `wait` keeps trying, photos stay
    in the log meanwhile, and readiness reports the reason. A setting or a model that cannot work raises
    Invalid: it ends the start, or later the process.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stack = AsyncExitStack()
        self._detector: Detector | None = None
        self._error: Unavailable = DetectorNotReady("the detector has not been opened yet", "DETECTOR_AWAY")

    async def __aenter__(self) -> Self:
        """Tries once. Raises Invalid."""
        with suppress(DetectorNotReady):
            await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def is_open(self) -> bool:
        return self._detector is not None

    def detector(self) -> Detector:
        """Raises Unavailable until the detector is open."""
        if self._detector is None:
            raise self._error
        return self._detector

    async def check(self) -> None:
        await self.detector().check()

    async def wait(self) -> Detector:
        """Tries until the detector is open. Raises Invalid."""
        if self._detector is not None:
            return self._detector
        return await retry(
            self._open,
            "open the detector",
            backoff=BACKOFF,
            retry_on=lambda error: isinstance(error, DetectorNotReady),
        )

    async def _open(self) -> Detector:
        async with AsyncExitStack() as stack:
            try:
                detector = await stack.enter_async_context(open_detector(self._config))
            except DetectorNotReady as error:
                self._error = error
                raise
            self._stack = stack.pop_all()
            self._detector = detector
            return detector
