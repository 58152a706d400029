"""A detector that is ready later than the service, and one that can never be opened."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from detect_svc.detectors import opener
from detect_svc.detectors.detector import Detector, DetectorNotReady
from detect_svc.detectors.opener import DetectorOpener
from mesh.config import Config, load_config
from mesh.problems import Invalid, Problem, Unavailable
from mesh.retry import Backoff
from tests.support.detectors import FakeDetector


class FakeFactory:
    """Raises its problems one by one, then opens its detector. `open` counts the open ones."""

    def __init__(self, *problems: Problem) -> None:
        self.problems, self.detector, self.open = list(problems), FakeDetector(), 0

    @asynccontextmanager
    async def __call__(self, config: Config) -> AsyncIterator[Detector]:
        if self.problems:
            raise self.problems.pop(0)
        self.open += 1
        try:
            yield self.detector
        finally:
            self.open -= 1


def not_ready(message: str) -> DetectorNotReady:
    return DetectorNotReady(message, "DETECTOR_AWAY")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opener, "BACKOFF", Backoff(0.001, 0.01))


async def test_a_detector_that_is_ready_is_opened_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    factory = FakeFactory()
    monkeypatch.setattr(opener, "open_detector", factory)
    async with DetectorOpener(load_config()) as opening:
        assert opening.is_open
        assert opening.detector() is factory.detector
        await opening.check()
        factory.detector.problem = Unavailable("down", "DETECTOR_AWAY")
        with pytest.raises(Unavailable, match="down"):
            await opening.check()
        assert factory.open == 1
    assert factory.open == 0


async def test_until_the_detector_is_ready_its_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    factory = FakeFactory(*(not_ready(f"host:8001: down {attempt}") for attempt in range(3)))
    monkeypatch.setattr(opener, "open_detector", factory)
    async with DetectorOpener(load_config()) as opening:
        assert not opening.is_open
        for _ in range(2):
            with pytest.raises(Unavailable, match="down 0"):
                await opening.check()
            with pytest.raises(Unavailable, match="down 0"):
                opening.detector()
        assert await asyncio.wait_for(opening.wait(), 90) is factory.detector
        assert opening.detector() is factory.detector
    assert factory.open == 0


async def test_an_invalid_setting_is_raised_at_once_and_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = Invalid("does not fit", "MODEL_DOES_NOT_FIT")
    monkeypatch.setattr(opener, "open_detector", FakeFactory(wrong))
    with pytest.raises(Invalid, match="does not fit"):
        async with DetectorOpener(load_config()):
            pass
    monkeypatch.setattr(opener, "open_detector", FakeFactory(not_ready("down"), wrong))
    async with DetectorOpener(load_config()) as opening:
        with pytest.raises(Invalid, match="does not fit"):
            await asyncio.wait_for(opening.wait(), 90)
