"""The LLM server is gone while ten minutes of photos come in: unreachable, then answering badly."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web

from lares.detect.v1.events_pb2 import MediaDetected
from lares.reason.v1.reason_service_pb2 import (
    REASONER_STATE_FAILING,
    REASONER_STATE_READY,
    REASONER_STATE_UNREACHABLE,
    GetReasonStatusRequest,
    GetReasonStatusResponse,
)
from lares.reason.v1.reason_service_pb2_grpc import ReasonServiceStub
from lares.store.v1.event_pb2 import (
    EVENT_STATUS_ASSESSED,
    EVENT_STATUS_FAILED,
    EVENT_STATUS_PENDING,
    Event,
)
from mesh.retry import Backoff
from mesh.rpc import call
from mesh.security import as_itself
from reason_svc import service
from store_svc import job_leases
from tests.support.facts import at, detected
from tests.support.recorded import Recorded, open_recorded
from tests.support.scripted_llm import ScriptedLlm, breaks_off, raw, replies, says
from tests.support.store_and_reasoner import StoreAndReasoner, open_store_and_reasoner
from tests.support.waiting import POLL_SECONDS, until_async

CAMERAS = ("front", "garden", "street", "yard")
URGENT = ("front", "garden")
GAP = 30.0
NONSENSE = (
    replies(500, {"error": {"message": "out of memory"}}),
    says("I would say that it is fine."),
    says('{"score": 9'),
    says('{"score": "very high", "summary": "run"}'),
    says('{"reasons": [', finish="length"),
    breaks_off,
    raw(b"\xff\x00"),
)


class Oracle(ScriptedLlm):
    """An LLM server that comes and goes. Remembers each judgement that it gave, and for which prompt."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = 1  # so that it is asked in the order in which the store hands out
        self.given: dict[str, str] = {}
        self._nonsense = itertools.cycle(NONSENSE)

    @asynccontextmanager
    async def there(self, *, well: bool = True) -> AsyncIterator[None]:
        self.always = self._judgement if well else self._something
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    def recover(self, recorded: asyncio.Event) -> None:
        """Answers well from now on: the first time at once, and again when that is `recorded`."""

        async def second(request: web.Request) -> web.StreamResponse:
            await recorded.wait()
            return await self._judgement(request)

        self.turns.extend((self._judgement, second))
        self.always = self._judgement

    async def _judgement(self, request: web.Request) -> web.StreamResponse:
        number = len(self.given) + 1
        reasons = [{"text": f"reason {number}", "detections": [1]}]
        content = json.dumps({"reasons": reasons, "score": number % 101, "summary": f"answer {number}"})
        self.given[content] = (await request.json())["messages"][1]["content"]
        return await says(content)(request)

    async def _something(self, request: web.Request) -> web.StreamResponse:
        return await next(self._nonsense)(request)


def minute(number: int) -> list[MediaDetected]:
    """Two photos of every camera, five seconds apart: one event each, no two at the same time."""
    return [
        detected(2 * number + n, began(camera, number) + 5 * n, camera=camera, urgent=camera in URGENT)
        for n, camera in itertools.product((0, 1), CAMERAS)
    ]


def began(camera: str, number: int) -> float:
    return 60 * number + CAMERAS.index(camera)


def event_of(camera: str, number: int) -> str:
    """How the prompt tells that event apart."""
    return f"camera: {camera.title()}\nbegan: {at(began(camera, number)):%A %Y-%m-%d %H:%M:%S}"


async def pass_minutes(judging: StoreAndReasoner, look: Recorded, minutes: Sequence[int]) -> None:
    """All of their events are recorded and closed."""
    for number in minutes:
        await judging.publish(*minute(number))
        await until_async(partial(counted, look, "media", 8 * (number + 1)))
        judging.turn(60)
    judging.turn(GAP)
    await until_async(lambda: counted(look, "events WHERE closed", 4 * (minutes[-1] + 1)))


async def counted(look: Recorded, what: str, wanted: int) -> bool:
    return await look.counts(what) == [wanted]


async def is_in(judging: StoreAndReasoner, wanted: int) -> bool:
    """Whether the judge says so of itself."""
    stub = ReasonServiceStub(judging.mesh.channel("reason"))
    with as_itself():
        status = cast(GetReasonStatusResponse, await call(stub.GetReasonStatus, GetReasonStatusRequest()))
    return status.state == wanted


async def left_alone(judging: StoreAndReasoner, look: Recorded) -> None:
    """Waits until all that is unjudged is due, and stays so for longer than a judge's last look at the queue
    takes that it began before it saw that nobody is there."""
    seen = 0

    async def due() -> bool:
        nonlocal seen
        judging.turn(1)
        rows = await look.rows(
            "SELECT due_at, lease_id FROM events LEFT JOIN jobs ON subject_id = events.id WHERE status <> 2"
        )
        quiet = all(row["lease_id"] is None and row["due_at"] <= judging.now for row in rows)
        seen = seen + 1 if quiet and await is_in(judging, REASONER_STATE_UNREACHABLE) else 0
        return seen * POLL_SECONDS > 4 * job_leases.POLL_SECONDS

    await until_async(due)


async def judged_are(judging: StoreAndReasoner, look: Recorded, wanted: int) -> bool:
    """Whether so many events are judged. The clock goes on, so that some are due."""
    judging.turn(POLL_SECONDS)
    return await counted(look, "events WHERE status = 2", wanted)


async def all_are(judging: StoreAndReasoner, *statuses: int) -> list[Event]:
    """The events, once all have one of these. The clock goes on: what was released waits a second of it."""
    judging.turn(POLL_SECONDS)
    events = await judging.events()
    return events if all(event.status in statuses for event in events) else []


@pytest.fixture
async def look(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


async def test_what_comes_while_the_llm_is_gone_is_judged_when_it_returns(
    monkeypatch: pytest.MonkeyPatch, kafka_url: str, postgres_url: str, look: Recorded, tmp_path: Path
) -> None:
    monkeypatch.setattr(service, "BACKOFF", Backoff(0.05, 0.5))
    oracle = Oracle()
    async with AsyncExitStack() as stack:
        async with oracle.there():
            settings = {"reasoner_url": oracle.url(), "event_gap_seconds": GAP}
            judging = await stack.enter_async_context(
                open_store_and_reasoner(monkeypatch, kafka_url, postgres_url, tmp_path / "home", **settings)
            )
            await pass_minutes(judging, look, [0])
            await until_async(lambda: all_are(judging, EVENT_STATUS_ASSESSED))
        before = {event.id: event.assessment for event in await judging.events()}

        # Five minutes without anybody at the other end.
        await pass_minutes(judging, look, range(1, 6))
        await until_async(lambda: is_in(judging, REASONER_STATE_UNREACHABLE))
        unjudged(await judging.events(), before, {EVENT_STATUS_PENDING})

        # Five minutes of nonsense.
        given = len(oracle.given)
        async with oracle.there(well=False):
            await pass_minutes(judging, look, range(6, 11))
            await until_async(
                lambda: counted(
                    look, "events JOIN jobs ON subject_id = events.id WHERE status = 3 AND attempts > 0", 40
                )
            )
            await until_async(lambda: is_in(judging, REASONER_STATE_FAILING))
            unjudged(await judging.events(), before, {EVENT_STATUS_FAILED})
            assert len(oracle.given) == given

            # The first is whichever is tried first, and who takes a second has not heard of it yet.
            recorded = asyncio.Event()
            oracle.recover(recorded)
            await until_async(lambda: judged_are(judging, look, 5))
            recorded.set()
            await until_async(lambda: all_are(judging, EVENT_STATUS_ASSESSED))
            await until_async(lambda: is_in(judging, REASONER_STATE_READY))
        asked, wanted = told(oracle)[given:], newest_urgent_first(range(1, 11))
        assert asked[2:] == [event for event in wanted if event not in asked[:2]]
        assert len(asked) == len(wanted)

        # Gone once more, and back.
        await pass_minutes(judging, look, range(11, 13))
        await left_alone(judging, look)
        async with oracle.there():
            await until_async(lambda: all_are(judging, EVENT_STATUS_ASSESSED))
        assert told(oracle)[given + len(wanted) :] == newest_urgent_first(range(11, 13))
        events = await judging.events()
        assert {event.id: event.assessment for event in events if event.id in before} == before
        await judged_once_by_what_was_said(look, oracle, events)


def newest_urgent_first(minutes: Collection[int]) -> list[str]:
    events = [(camera, number) for number in minutes for camera in CAMERAS]
    events.sort(key=lambda event: (event[0] in URGENT, began(*event)), reverse=True)
    return [event_of(*event) for event in events]


def told(oracle: Oracle) -> list[str]:
    """The events of which it gave a judgement, in order."""
    return [prompt.partition(" local time")[0].partition("\n")[2] for prompt in oracle.given.values()]


def unjudged(events: Sequence[Event], before: Collection[str], statuses: set[int]) -> None:
    """Those of the outage are there for everybody to see, and nobody made up a score."""
    during = [event for event in events if event.id not in before]
    assert during
    assert {event.status for event in during} == statuses
    assert not [event for event in during if event.HasField("assessment")]
    assert all(event.detection_count == 2 and event.labels == ["person"] for event in during)


async def judged_once_by_what_was_said(look: Recorded, oracle: Oracle, events: Sequence[Event]) -> None:
    """One assessment for each piece of evidence, and behind each one an answer given for that very event."""
    rows = await look.rows("SELECT event_id, evidence_digest FROM assessments")
    raw = await look.rows("SELECT assessment_id, body FROM raw_answers")
    answers = {str(row["assessment_id"]): row["body"].decode() for row in raw}
    assert max(Counter((row["event_id"], row["evidence_digest"]) for row in rows).values()) == 1
    assert {str(row["event_id"]) for row in rows} == {event.id for event in events}
    for event in events:
        answer = answers[event.assessment.id]
        prompt = oracle.given[answer]
        assert event_of(event.camera_id, event.started_at.ToDatetime().minute) in prompt
        assert json.loads(answer)["score"] == event.assessment.score
    assert len({answers[event.assessment.id] for event in events}) == len(events) == 52
