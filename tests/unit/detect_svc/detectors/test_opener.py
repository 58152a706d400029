"""A detector that comes later than the service; one that will never do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from detect_svc.detectors import opener
from detect_svc.detectors.detector import Detector, DetectorNotReady
from detect_svc.detectors.opener import DetectorOpener
from mesh.config import Config, load_config
from mesh.problems import Invalid, Problem, Unavailable
from tests.support.detectors import FakeDetector


class Openings:
    """Raises its problems one by one, then opens; counts what is open."""

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


def away(words: str) -> DetectorNotReady:
    return DetectorNotReady(words, "DETECTOR_AWAY")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opener, "SHORTEST_SECONDS", 0.001)
    monkeypatch.setattr(opener, "LONGEST_SECONDS", 0.01)


async def test_one_that_is_there_is_used_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    openings = Openings()
    monkeypatch.setattr(opener, "open_detector", openings)
    async with DetectorOpener(load_config()) as watching:
        assert watching.is_there
        assert watching.detector() is openings.detector
        await watching.check()
        openings.detector.problem = Unavailable("down", "DETECTOR_AWAY")
        with pytest.raises(Unavailable, match="down"):
            await watching.check()
        assert openings.open == 1
    assert openings.open == 0


async def test_one_that_comes_later_is_waited_for_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    openings = Openings(*(away(f"host:8001: down {attempt}") for attempt in range(3)))
    monkeypatch.setattr(opener, "open_detector", openings)
    async with DetectorOpener(load_config()) as watching:
        assert not watching.is_there
        for _ in range(2):
            with pytest.raises(Unavailable, match="down 0"):
                await watching.check()
            with pytest.raises(Unavailable, match="down 0"):
                watching.detector()
        assert await asyncio.wait_for(watching.until_there(), 90) is openings.detector
        assert watching.detector() is openings.detector
    assert openings.open == 0


async def test_what_waiting_cannot_mend_is_an_error_at_once_and_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = Invalid("does not fit", "MODEL_DOES_NOT_FIT")
    monkeypatch.setattr(opener, "open_detector", Openings(wrong))
    with pytest.raises(Invalid, match="does not fit"):
        async with DetectorOpener(load_config()):
            pass
    monkeypatch.setattr(opener, "open_detector", Openings(away("down"), wrong))
    async with DetectorOpener(load_config()) as watching:
        with pytest.raises(Invalid, match="does not fit"):
            await asyncio.wait_for(watching.until_there(), 90)
