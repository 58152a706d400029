"""The write side of the store on a real database, fed by hand instead of by Kafka."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from google.protobuf.message import Message

from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.events_pb2 import MediaRejected
from lares.reason.v1.events_pb2 import EventAssessed
from lares.store.internal.v1.job_service_pb2 import JobLease
from lares.store.v1.events_pb2 import EventChanged
from mesh.config import load_config
from mesh.delivery import Delivery
from store_svc.commit_signals import CommitSignals
from store_svc.consumer import Consumer
from store_svc.database import Database, open_database
from store_svc.domain.assembly import AssemblyLimits
from store_svc.domain.evidence import digest_v2
from store_svc.domain.frozen_evidence import FrozenEvidence
from store_svc.domain.job import ASSESS, RENDER
from store_svc.domain.watch_policy import WatchSettings
from store_svc.house.amendments import EvidenceAmendments
from store_svc.house.contexts import HouseContexts
from store_svc.house.modes import Modes
from store_svc.house.people import People
from store_svc.house.presence import PresenceReports
from store_svc.job_leases import JobKind, JobLeases
from store_svc.migration import migrate
from store_svc.offsets import Offsets
from store_svc.queries.assess_inputs import AssessInputs
from store_svc.queries.evidence import EvidenceReader
from store_svc.read_progress import ReadProgress
from store_svc.reassessments import Reassessments
from store_svc.recording.event_assessed import EventAssessedRecorder
from store_svc.recording.media_detected import MediaDetectedRecorder
from store_svc.recording.media_rejected import MediaRejectedRecorder
from store_svc.renditions.render_inputs import RenderInputs
from store_svc.service import watch_settings
from store_svc.sweep import Sweep, sweep_once
from tests.support.facts import NOON, deliveries

LEASE_SECONDS = 60.0
ENTRY_DELAY = timedelta(seconds=120)


class FakeStream:
    """Remembers what it is told. `log` is what seeking hands out again; `end` the offset of the log's end."""

    def __init__(self, topic_id: str = "topic-1") -> None:
        self.topic_id = topic_id
        self.finished: list[Delivery[Any]] = []
        self.buried: list[tuple[int, str]] = []
        self.sought: dict[int, int] = {}
        self.end: dict[int, int] = {}
        self.position: dict[int, int] = {}

    def done(self, delivery: Delivery[Any]) -> None:
        self.finished.append(delivery)
        self.position[delivery.partition] = delivery.offset + 1

    async def bury(self, delivery: Delivery[Any], reason: str, *, attempts: int = 1) -> None:
        self.buried.append((delivery.offset, reason))

    async def seek(self, partition: int, offset: int) -> None:
        self.sought[partition] = offset

    async def ends(self) -> dict[int, int]:
        return self.end or self.position

    async def behind(self, ends: Mapping[int, int]) -> int:
        return sum(max(0, end - self.position.get(partition, 0)) for partition, end in ends.items())

    def positions(self) -> dict[int, int]:
        return self.position


@dataclass
class Recorded:
    """One store process; several may share a database. Its clock stands until it is set."""

    database: Database
    limits: AssemblyLimits = field(default_factory=AssemblyLimits)
    now: datetime = NOON
    time_zone: str = "UTC"
    watch: WatchSettings = field(default_factory=lambda: watch_settings(load_config()))
    signals: CommitSignals = field(default_factory=CommitSignals)
    detections: FakeStream = field(default_factory=FakeStream)
    rejections: FakeStream = field(default_factory=FakeStream)
    assessments: FakeStream = field(default_factory=FakeStream)
    renditions: FakeStream = field(default_factory=FakeStream)
    next: dict[tuple[str, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def clock() -> datetime:
            return self.now

        self.offsets = Offsets(self.database, "store_svc")
        houses, span = HouseContexts(ENTRY_DELAY), timedelta(microseconds=self.limits.span)
        amendments = EvidenceAmendments(houses, ENTRY_DELAY, span, self.signals, clock)
        self.modes = Modes(self.database, "UTC", ENTRY_DELAY, amendments, clock)
        self.people = People(self.database, clock)
        self.presence = PresenceReports(self.database, amendments, clock)
        self.recorder = MediaDetectedRecorder(self.limits, self.watch, self.time_zone, houses, clock)
        self.detected = Consumer(self.database, self.offsets, self.signals, self.recorder)
        self.rejected = Consumer(self.database, self.offsets, self.signals, MediaRejectedRecorder(clock))
        self.assessed = Consumer(self.database, self.offsets, self.signals, EventAssessedRecorder(clock))
        self.reassessments = Reassessments(self.database, self.signals.due, clock)
        self.sweeper = Sweep(self.database, self.limits.gap / 1_000_000, LEASE_SECONDS, clock)
        self.facts = ReadProgress(self.assessments.ends, self.assessments.behind, clock)
        self.rendered_facts = ReadProgress(self.renditions.ends, self.renditions.behind, clock)
        self.all_facts = {ASSESS: self.facts, RENDER: self.rendered_facts}
        rolls = (timedelta(seconds=5), timedelta(seconds=5), timedelta(hours=1))
        self.inputs = RenderInputs(*rolls)
        kinds = {
            ASSESS: JobKind(self.facts, AssessInputs(EvidenceReader()).read),
            RENDER: JobKind(self.rendered_facts, self.inputs.read),
        }
        self.leases = JobLeases(self.database, kinds, self.signals.due, LEASE_SECONDS, clock)

    async def detect(self, *messages: MediaDetected, partition: int = 0, first: int | None = None) -> None:
        """One batch, at the offsets that follow."""
        batch = self.batch("detect.detections.v1", messages, partition, first)
        await self.detected.process(self.detections, batch)  # type: ignore[arg-type]

    async def reject(self, *messages: MediaRejected) -> None:
        batch = self.batch("ingest.rejections.v1", messages, 0, None)
        await self.rejected.process(self.rejections, batch)  # type: ignore[arg-type]

    async def assess(self, *messages: EventAssessed, partition: int = 0) -> None:
        batch = self.batch("reason.assessments.v1", messages, partition, None)
        await self.assessed.process(self.assessments, batch)  # type: ignore[arg-type]

    def batch(
        self, topic: str, messages: Sequence[Message], partition: int, first: int | None
    ) -> list[Delivery[Any]]:
        at = self.next.get((topic, partition), 0) if first is None else first
        self.next[topic, partition] = at + len(messages)
        return deliveries(topic, *messages, first=at, partition=partition)

    async def sweep(self, after: float = 0.0) -> None:
        """Once, `after` seconds later."""
        self.now += timedelta(seconds=after)
        effect = await sweep_once(self.sweeper, self.detections, self.all_facts)  # type: ignore[arg-type]
        self.signals.notify(feed=effect.outbox, due=effect.due)

    async def take(self, most: int = 9) -> list[JobLease]:
        """JobLeases without waiting, all facts of before being read."""
        if self.facts.until is None:
            await self.facts.update()
        return await self.leases.lease(ASSESS, most, 0.0)

    async def rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async with self.database.connection() as connection:
            return await connection.fetch(query, *arguments)

    async def event(self, id: str) -> asyncpg.Record:
        (row,) = await self.rows("SELECT * FROM events WHERE id = $1", id)
        return row

    async def frozen(self, id: str) -> FrozenEvidence:
        """What is frozen of the event's evidence."""
        (row,) = await self.rows("SELECT scene, body FROM event_evidence WHERE event_id = $1", id)
        return FrozenEvidence(row["scene"], row["body"])

    async def digest(self, id: str, *detections: str) -> str:
        """The digest of the event's evidence with these detections."""
        return digest_v2(map(UUID, detections), (await self.frozen(id)).digest)

    async def job(self, id: str) -> asyncpg.Record | None:
        """The `assess` job of the event; None where it has none."""
        rows = await self.rows("SELECT * FROM jobs WHERE kind = 1 AND subject_id = $1", id)
        return rows[0] if rows else None

    async def due_at(self, id: str) -> datetime | None:
        """When the event's job is due; None where it has none."""
        return job["due_at"] if (job := await self.job(id)) else None

    async def feed(self) -> list[EventChanged]:
        rows = await self.rows("SELECT body FROM feed ORDER BY sequence")
        return [EventChanged.FromString(row["body"]) for row in rows]

    async def members(self) -> dict[str, list[str]]:
        """By event, its detections: what is the same in every run."""
        rows = await self.rows("SELECT event_id, id FROM detections ORDER BY event_id, id")
        found: dict[str, list[str]] = {}
        for row in rows:
            found.setdefault(str(row["event_id"]), []).append(str(row["id"]))
        return found

    async def next_offsets(self) -> list[int]:
        return [
            row["next_offset"]
            for row in await self.rows("SELECT next_offset FROM offsets ORDER BY partition")
        ]

    async def counts(self, *tables: str) -> list[int]:
        return [(await self.rows(f"SELECT count(*) FROM {table}"))[0][0] for table in tables]


def sequences(feed: Collection[EventChanged]) -> list[int]:
    return [change.sequence for change in feed]


@asynccontextmanager
async def open_recorded(url: str, **settings: Any) -> AsyncIterator[Recorded]:
    """Over a database of that URL, with its tables made."""
    await migrate(url)
    async with open_database(url) as database:
        yield Recorded(database, **settings)
