"""What a child may answer about a clip: it reads bytes from outside, and may be under foreign control."""

from datetime import timedelta
from typing import Any

import pytest

from ingest_svc.clip_probing import ClipProbe
from ingest_svc.formats.clip_container import ClipContainer
from ingest_svc.formats.inspection import MediaHeader, MediaLimits
from ingest_svc.rejection import RejectionCause, RejectReason

LIMITS = MediaLimits(bytes=1, pixels=1_000_000, clip_bytes=1, clip_length=timedelta(hours=1))
ANSWER = {
    "width": 640,
    "height": 360,
    "length_ms": 4000,
    "codec": "h264",
    "frame_rate": 10.0,
    "rotation": 0,
    "has_audio": False,
    "created": None,
}


class Answering:
    def __init__(self, answer: object) -> None:
        self._answer = answer

    async def run(self, *_: object) -> Any:
        return self._answer


async def inspected(answer: object) -> MediaHeader | RejectionCause:
    return await ClipProbe(Answering(answer), LIMITS).inspect("clip", ClipContainer.MP4)


async def test_an_answer_is_a_header() -> None:
    header = await inspected(ANSWER)
    assert isinstance(header, MediaHeader)
    assert (header.width, header.height) == (640, 360)


INFINITE, NO_NUMBER = float("inf"), float("nan")


NONSENSE: dict[str, list[object]] = {
    "width": [0, -1, 10**9, INFINITE, NO_NUMBER, "wide", None, []],
    "length_ms": [INFINITE, NO_NUMBER, "long", {}],
    "rotation": [45, INFINITE, "up"],
    "codec": ["", "x" * 10**6, "h264\r\n", None],
    "frame_rate": ["fast", None, []],
}


@pytest.mark.parametrize(
    "answer",
    [
        *({**ANSWER, field: value} for field, values in NONSENSE.items() for value in values),
        {},
        [],
        None,
        "a header",
        b"a header",
    ],
    ids=lambda answer: str(answer)[:40],
)
async def test_an_answer_that_no_child_gives_is_a_rejection(answer: object) -> None:
    cause = await inspected(answer)
    assert isinstance(cause, RejectionCause)
    assert cause.reason is RejectReason.CORRUPT


@pytest.mark.parametrize("rate", [INFINITE, -INFINITE, NO_NUMBER, 0.0, 1e9])
async def test_a_frame_rate_that_cannot_be_is_not_known(rate: float) -> None:
    header = await inspected({**ANSWER, "frame_rate": rate})
    assert isinstance(header, MediaHeader)
    assert header.clip
    assert header.clip.frame_rate == 0


@pytest.mark.parametrize("created", ["9999-12-31T23:59:59-23:00", "x" * 10**6, 5, INFINITE])
async def test_a_creation_time_that_cannot_be_is_none(created: object) -> None:
    header = await inspected({**ANSWER, "created": created})
    assert isinstance(header, MediaHeader)
    assert header.clip
    assert header.clip.created is None
