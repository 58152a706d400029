"""The whole of store_svc on a real broker and a real PostgreSQL, with restarts."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from lares.detect.v1.events_pb2 import MediaDetected
from lares.store.v1.events_pb2 import EventChanged
from mesh import feed
from mesh.bus import Bus, open_bus
from mesh.config import Config, load_config
from mesh.mesh import Mesh
from mesh.rpc import GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from mesh.secret import Secret
from mesh.topics import ASSESSED, CAMERAS, DETECTED, FEED, INGESTED, KEPT, REJECTED, RENDERED, Topic
from store_svc import outbox, service
from store_svc.recording.event_assessed import EventAssessedRecorder
from store_svc.recording.media_detected import MediaDetectedRecorder
from store_svc.recording.media_rejected import MediaRejectedRecorder
from store_svc.recording.media_rendered import MediaRenderedRecorder
from tests.support.facts import assessed, detected, found, opened_by, rejected
from tests.support.recorded import Recorded, open_recorded
from tests.support.records import unique


@dataclass
class Log:
    """Topics that only this test uses, in place of the real ones."""

    bus: Bus
    detections: Topic[MediaDetected]
    rejections: Topic[Any]
    assessments: Topic[Any]
    feed: Topic[EventChanged]


@pytest.fixture
async def log(kafka_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Log]:
    own: list[Topic[Any]] = [
        replace(topic, name=unique(topic.name))
        for topic in (INGESTED, DETECTED, REJECTED, ASSESSED, RENDERED, FEED, CAMERAS, KEPT)
    ]
    announcements, detections, rejections, assessments, renditions, changes, cameras, kept = own
    for owner, name, topic in (
        (service, "INGESTED", announcements),
        (service, "DETECTED", detections),
        (service, "REJECTED", rejections),
        (service, "ASSESSED", assessments),
        (service, "RENDERED", renditions),
        (MediaDetectedRecorder, "topic", detections),
        (MediaRejectedRecorder, "topic", rejections),
        (EventAssessedRecorder, "topic", assessments),
        (MediaRenderedRecorder, "topic", renditions),
        (outbox, "FEED", changes),
        (feed, "FEED", changes),
        (outbox, "CAMERAS", cameras),
        (outbox, "KEPT", kept),
    ):
        monkeypatch.setattr(owner, name, topic)
    async with open_bus(kafka_url, client_id="store-test", instance=unique("store-test")) as bus:
        await bus.create_topics(own)
        yield Log(bus, detections, rejections, assessments, changes)


@pytest.fixture
async def recorded(postgres_url: str) -> AsyncIterator[Recorded]:
    """The database of the store."""
    async with open_recorded(postgres_url) as opened:
        yield opened


@asynccontextmanager
async def serving(log: Log, url: str, home: Path, **settings: Any) -> AsyncIterator[Mesh]:
    config: Config = load_config(home=home, **settings)
    async with AsyncExitStack() as stack:
        nothing = cast(Any, None)
        mesh = Mesh(config, log.bus, nothing, GrpcServer(CallInterceptor), nothing, nothing, Secret.of(url))
        await stack.enter_async_context(service.open(config, mesh))
        yield mesh
        assert not mesh.failure.done()


async def until_counts(recorded: Recorded, table: str, wanted: int, seconds: float = 90.0) -> None:
    async with asyncio.timeout(seconds):
        while (await recorded.counts(table))[0] < wanted:
            await asyncio.sleep(0.02)


async def published(log: Log, wanted: int) -> list[int]:
    """Returns the sequences on the topic of the feed up to `wanted`."""
    seen: list[int] = []
    async with log.bus.tail(log.feed, start="beginning") as tail, asyncio.timeout(90):
        async for delivery in tail:
            seen.append(delivery.message.sequence)
            if seen[-1] == wanted:
                break
    return seen


async def test_a_photo_is_recorded_closed_assessed_and_published(
    log: Log, recorded: Recorded, postgres_url: str, tmp_path: Path
) -> None:
    async with serving(log, postgres_url, tmp_path, event_gap_seconds=0.5):
        await log.bus.publish(log.detections, detected(1, 0), detected(2, 0.25))
        await log.bus.publish(log.rejections, rejected(3))
        await until_counts(recorded, "events JOIN jobs ON subject_id = events.id WHERE closed", 1)
        row = await recorded.event(opened_by(1))
        assessment = assessed(opened_by(1), found(1), row["evidence_revision"], row["evidence_digest"])
        await log.bus.publish(log.assessments, assessment)
        await until_counts(
            recorded, "events WHERE assessment_id IS NOT NULL AND id NOT IN (SELECT subject_id FROM jobs)", 1
        )
        await until_counts(recorded, "rejections", 1)
        head = (await recorded.feed())[-1].sequence
        assert await published(log, head) == list(range(1, head + 1))
        assert await recorded.members() == {opened_by(1): sorted([found(1), found(2)])}


async def test_everything_is_recorded_once_across_restarts(
    log: Log, recorded: Recorded, postgres_url: str, tmp_path: Path
) -> None:
    """The store is stopped several times while it records 300 photos of 15 cameras."""
    chance = random.Random(3)
    photos = [detected(n, n * 1000, camera=f"cam{n % 15}") for n in range(300)]
    publishing = asyncio.create_task(publish(log, photos))
    for _ in range(5):
        async with serving(log, postgres_url, tmp_path):
            (before,) = await recorded.counts("media")
            if before < len(photos):
                await until_counts(recorded, "media", min(len(photos), before + chance.randrange(1, 25)))
    await publishing
    async with serving(log, postgres_url, tmp_path):
        await until_counts(recorded, "media", len(photos))
        seen = await published(log, len(photos))
    assert await recorded.counts("media", "detections", "events", "feed") == [300, 300, 300, 300]
    distinct = list(dict.fromkeys(seen))
    assert distinct == list(range(1, 301))  # in order, apart from repetitions


async def publish(log: Log, photos: list[MediaDetected]) -> None:
    for first in range(0, len(photos), 10):
        await log.bus.publish(log.detections, *photos[first : first + 10])
        await asyncio.sleep(0.05)


async def test_an_invalid_record_does_not_stop_the_others(
    log: Log, recorded: Recorded, postgres_url: str, tmp_path: Path
) -> None:
    broken = detected(2, 10)
    broken.media.id = "none"
    async with serving(log, postgres_url, tmp_path):
        await log.bus.publish(log.detections, detected(1, 0), broken, detected(3, 1000))
        await until_counts(recorded, "media", 2)
        async with asyncio.timeout(90):
            query = "SELECT next_offset FROM offsets WHERE consumer = 'store_svc'"
            while [row[0] for row in await recorded.rows(query)] != [3]:
                await asyncio.sleep(0.02)
