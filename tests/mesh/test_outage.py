"""An LLM server that is unreachable for five minutes of photos, then answers badly for five more."""

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


class OutageLlm(ScriptedLlm):
    """An LLM server that can be started and stopped. `answers` maps its good answers to their prompts."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = 1  # so that it gets the events in the order in which the store leases them
        self.answers: dict[str, str] = {}
        self._nonsense = itertools.cycle(NONSENSE)

    @asynccontextmanager
    async def running(self, *, well: bool = True) -> AsyncIterator[None]:
        self.always = self._answer if well else self._nonsense_answer
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    def recover(self, first_recorded: asyncio.Event) -> None:
        """Answers well from now on: once at once, and again after `first_recorded` is set."""

        async def second(request: web.Request) -> web.StreamResponse:
            await first_recorded.wait()
            return await self._answer(request)

        self.turns.extend((self._answer, second))
        self.always = self._answer

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        number = len(self.answers) + 1
        reasons = [{"text": f"reason {number}", "detections": [1]}]
        content = json.dumps({"reasons": reasons, "score": number % 101, "summary": f"answer {number}"})
        self.answers[content] = (await request.json())["messages"][1]["content"]
        return await says(content)(request)

    async def _nonsense_answer(self, request: web.Request) -> web.StreamResponse:
        return await next(self._nonsense)(request)


def minute(number: int) -> list[MediaDetected]:
    """Returns two photos of every camera, five seconds apart. Each camera has one event, and no two photos
    have the same time."""
    return [
        detected(2 * number + n, began(camera, number) + 5 * n, camera=camera, urgent=camera in URGENT)
        for n, camera in itertools.product((0, 1), CAMERAS)
    ]


def began(camera: str, number: int) -> float:
    return 60 * number + CAMERAS.index(camera)


def event_of(camera: str, number: int) -> str:
    """Returns the part of the prompt that identifies the event."""
    return f"camera: {camera.title()}\nbegan: {at(began(camera, number)):%A %Y-%m-%d %H:%M:%S}"


async def pass_minutes(services: StoreAndReasoner, database: Recorded, minutes: Sequence[int]) -> None:
    """Publishes the photos of these minutes, and waits until their events are recorded and closed."""
    for number in minutes:
        await services.publish(*minute(number))
        await until_async(partial(count_is, database, "media", 8 * (number + 1)))
        services.advance(60)
    services.advance(GAP)
    await until_async(lambda: count_is(database, "events WHERE closed", 4 * (minutes[-1] + 1)))


async def count_is(database: Recorded, what: str, wanted: int) -> bool:
    return await database.counts(what) == [wanted]


async def reasoner_is(services: StoreAndReasoner, wanted: int) -> bool:
    """Whether the reasoner reports this state."""
    stub = ReasonServiceStub(services.mesh.channel("reason"))
    with as_itself():
        status = cast(GetReasonStatusResponse, await call(stub.GetReasonStatus, GetReasonStatusRequest()))
    return status.state == wanted


async def until_nothing_is_leased(services: StoreAndReasoner, database: Recorded) -> None:
    """Waits until all events that are not assessed are due and not leased, and remain so.

    The worker may still be waiting for a lease that it asked for before the reasoner was unreachable, so they
    must remain so for longer than the store checks its queue for that.
    """
    seen = 0

    async def due() -> bool:
        nonlocal seen
        services.advance(1)
        rows = await database.rows(
            "SELECT due_at, lease_id FROM events LEFT JOIN jobs ON subject_id = events.id WHERE status <> 2"
        )
        quiet = all(row["lease_id"] is None and row["due_at"] <= services.now for row in rows)
        seen = seen + 1 if quiet and await reasoner_is(services, REASONER_STATE_UNREACHABLE) else 0
        return seen * POLL_SECONDS > 4 * job_leases.POLL_SECONDS

    await until_async(due)


async def assessed_count_is(services: StoreAndReasoner, database: Recorded, wanted: int) -> bool:
    """Whether this many events are assessed. Advances the clock, so that retries become due."""
    services.advance(POLL_SECONDS)
    return await count_is(database, "events WHERE status = 2", wanted)


async def events_once_all_are(services: StoreAndReasoner, *statuses: int) -> list[Event]:
    """Returns the events if each has one of these statuses, else nothing. Advances the clock, because a job
    is due a second after its lease was released."""
    services.advance(POLL_SECONDS)
    events = await services.events()
    return events if all(event.status in statuses for event in events) else []


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as opened:
        yield opened


async def test_events_of_an_outage_are_assessed_after_it(
    monkeypatch: pytest.MonkeyPatch, kafka_url: str, postgres_url: str, database: Recorded, tmp_path: Path
) -> None:
    monkeypatch.setattr(service, "BACKOFF", Backoff(0.05, 0.5))
    llm = OutageLlm()
    async with AsyncExitStack() as stack:
        async with llm.running():
            settings = {"reasoner_url": llm.url(), "event_gap_seconds": GAP, "reason_prompt": "v1"}
            services = await stack.enter_async_context(
                open_store_and_reasoner(monkeypatch, kafka_url, postgres_url, tmp_path / "home", **settings)
            )
            await pass_minutes(services, database, [0])
            await until_async(lambda: events_once_all_are(services, EVENT_STATUS_ASSESSED))
        before = {event.id: event.assessment for event in await services.events()}

        # Five minutes without a server.
        await pass_minutes(services, database, range(1, 6))
        await until_async(lambda: reasoner_is(services, REASONER_STATE_UNREACHABLE))
        assert_not_assessed(await services.events(), before, {EVENT_STATUS_PENDING})

        # Five minutes of bad answers.
        answered = len(llm.answers)
        async with llm.running(well=False):
            await pass_minutes(services, database, range(6, 11))
            await until_async(
                lambda: count_is(
                    database,
                    "events JOIN jobs ON subject_id = events.id WHERE status = 3 AND attempts > 0",
                    40,
                )
            )
            await until_async(lambda: reasoner_is(services, REASONER_STATE_FAILING))
            assert_not_assessed(await services.events(), before, {EVENT_STATUS_FAILED})
            assert len(llm.answers) == answered

            # The first two are those whose retry happens to be due. From then on, the order is that of the
            # queue.
            first_recorded = asyncio.Event()
            llm.recover(first_recorded)
            await until_async(lambda: assessed_count_is(services, database, 5))
            first_recorded.set()
            await until_async(lambda: events_once_all_are(services, EVENT_STATUS_ASSESSED))
            await until_async(lambda: reasoner_is(services, REASONER_STATE_READY))
        asked, wanted = answered_events(llm)[answered:], newest_urgent_first(range(1, 11))
        assert asked[2:] == [event for event in wanted if event not in asked[:2]]
        assert len(asked) == len(wanted)

        # Another outage.
        await pass_minutes(services, database, range(11, 13))
        await until_nothing_is_leased(services, database)
        async with llm.running():
            await until_async(lambda: events_once_all_are(services, EVENT_STATUS_ASSESSED))
        assert answered_events(llm)[answered + len(wanted) :] == newest_urgent_first(range(11, 13))
        events = await services.events()
        assert {event.id: event.assessment for event in events if event.id in before} == before
        await assert_assessed_once_by_their_answers(database, llm, events)


def newest_urgent_first(minutes: Collection[int]) -> list[str]:
    events = [(camera, number) for number in minutes for camera in CAMERAS]
    events.sort(key=lambda event: (event[0] in URGENT, began(*event)), reverse=True)
    return [event_of(*event) for event in events]


def answered_events(llm: OutageLlm) -> list[str]:
    """Returns the events that the server answered well, in order."""
    return [prompt.partition(" local time")[0].partition("\n")[2] for prompt in llm.answers.values()]


def assert_not_assessed(events: Sequence[Event], before: Collection[str], statuses: set[int]) -> None:
    """The events of the outage are visible to clients, without an assessment."""
    during = [event for event in events if event.id not in before]
    assert during
    assert {event.status for event in during} == statuses
    assert not [event for event in during if event.HasField("assessment")]
    assert all(event.detection_count == 2 and event.labels == ["person"] for event in during)


async def assert_assessed_once_by_their_answers(
    database: Recorded, llm: OutageLlm, events: Sequence[Event]
) -> None:
    """Each piece of evidence has one assessment, made from an answer to the prompt for that event."""
    rows = await database.rows("SELECT event_id, evidence_digest FROM assessments")
    raw = await database.rows("SELECT assessment_id, body FROM raw_answers")
    answers = {str(row["assessment_id"]): row["body"].decode() for row in raw}
    assert max(Counter((row["event_id"], row["evidence_digest"]) for row in rows).values()) == 1
    assert {str(row["event_id"]) for row in rows} == {event.id for event in events}
    for event in events:
        answer = answers[event.assessment.id]
        prompt = llm.answers[answer]
        assert event_of(event.camera_id, event.started_at.ToDatetime().minute) in prompt
        assert json.loads(answer)["score"] == event.assessment.score
    assert len({answers[event.assessment.id] for event in events}) == len(events) == 52
