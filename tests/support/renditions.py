"""The renditions of a store, with a folder of blobs and a worker that a test plays."""

import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from lares.detect.v1.events_pb2 import MediaRendered
from lares.store.internal.v1.job_service_pb2 import JobLease
from lares.store.v1.rendition_pb2 import Rendition, RenditionKind
from mesh.blobs import FileBlobs
from mesh.security import Caller
from store_svc.consumer import Consumer
from store_svc.domain.job import RENDER
from store_svc.recording.media_rendered import MediaRenderedRecorder
from store_svc.rendition_eviction import RenditionEviction
from store_svc.renditions.render_inputs import RenderInputs
from store_svc.renditions.rendition_requests import RenditionRequests
from store_svc.renditions.unused_blobs import UnusedBlobs
from tests.support.callers import calling_as
from tests.support.facts import render_failed, rendered
from tests.support.recorded import Recorded, open_recorded

FRAMES = RenditionKind.RENDITION_KIND_FRAMES
PLAYABLE = RenditionKind.RENDITION_KIND_PLAYABLE
EVENT_CLIP = RenditionKind.RENDITION_KIND_EVENT_CLIP
EVENT_PREVIEW = RenditionKind.RENDITION_KIND_EVENT_PREVIEW
ANN, BEN = Caller.of_key("ann", "Ann"), Caller.of_key("ben", "Ben")
MOST_BYTES = 100


@dataclass
class RenditionStore:
    """The store's clock stands at the real time of the start, until a test moves it. A blob has the time at
    which, by this clock, it was put."""

    store: Recorded
    blobs: FileBlobs
    folder: Path
    most_bytes: int = MOST_BYTES
    rolls: tuple[float, float] = (5, 5)
    next: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        store, clock = self.store, lambda: self.store.now
        self.inputs = RenderInputs(*(timedelta(seconds=s) for s in (*self.rolls, 3600)))
        self.requests = RenditionRequests(store.database, self.inputs, self.blobs, store.signals, clock)
        recorder = MediaRenderedRecorder(self.blobs, clock)
        self.recorded = Consumer(store.database, store.offsets, store.signals, recorder)
        self.unused = UnusedBlobs(store.database, self.blobs)
        self.eviction = RenditionEviction(store.database, self.unused, self.most_bytes, clock)

    async def request(
        self, kind: RenditionKind.ValueType, subject: str, *, who: Caller = ANN, timeout: float = 0
    ) -> Rendition:
        with calling_as(who):
            return await self.requests.request(kind, subject, timeout)

    async def take(self, most: int = 9) -> list[JobLease]:
        """Leases without waiting, the facts that were published before being read."""
        if self.store.rendered_facts.until is None:
            await self.store.rendered_facts.update()
        return await self.store.leases.lease(RENDER, most, 0.0)

    async def record(self, *facts: MediaRendered) -> None:
        batch = self.store.batch("detect.renditions.v1", facts, 0, None)
        await self.recorded.process(self.store.renditions, batch)  # type: ignore[arg-type]

    async def put(self, content: bytes) -> str:
        """As a worker does before it publishes."""
        blob = await self.blobs.put(io.BytesIO(content))
        at = self.store.now.timestamp()
        os.utime(self.path(blob.sha256), (at, at))
        return blob.sha256

    async def make(self, rendition_id: str, content: bytes) -> MediaRendered:
        """Puts the content, and returns the fact."""
        return rendered(rendition_id, await self.put(content), len(content))

    async def ready(
        self, kind: RenditionKind.ValueType, subject: str, content: bytes, *, who: Caller = ANN
    ) -> Rendition:
        """Requests a rendition, and makes it."""
        waiting = await self.request(kind, subject, who=who)
        await self.take()
        await self.record(await self.make(waiting.id, content))
        return await self.request(kind, subject, who=who)

    async def fail(self, rendition_id: str, *, permanent: bool = False) -> None:
        await self.record(render_failed(rendition_id, str(uuid4()), permanent=permanent))

    def pass_time(self, seconds: float) -> None:
        self.store.now += timedelta(seconds=seconds)

    def path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256

    async def kept(self) -> set[str]:
        """The digests of all blobs."""
        return {name async for name in self.blobs.list()}

    async def row(self, id: str) -> asyncpg.Record | None:
        rows = await self.store.rows("SELECT * FROM renditions WHERE id = $1", id)
        return rows[0] if rows else None

    async def job(self, id: str) -> asyncpg.Record | None:
        rows = await self.store.rows("SELECT * FROM jobs WHERE kind = 2 AND subject_id = $1", id)
        return rows[0] if rows else None


@asynccontextmanager
async def open_renditions(url: str, folder: Path, **settings: Any) -> AsyncIterator[RenditionStore]:
    blobs = FileBlobs(folder)
    async with open_recorded(url, now=datetime.now(UTC)) as recorded:
        yield RenditionStore(recorded, blobs, folder, **settings)
    blobs.close()
