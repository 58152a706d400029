"""A RenderWorker with real blobs and children, a fake store behind a socket, and a list instead of a bus."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch
from uuid import NAMESPACE_OID, uuid5

from detect_svc.rendering.worker import RenderWorker
from lares.detect.v1.events_pb2 import MediaRendered
from lares.ingest.v1.media_pb2 import Media, MediaType
from lares.store.internal.v1 import job_service_pb2 as pb
from lares.store.internal.v1.job_service_pb2_grpc import add_JobServiceServicer_to_server
from lares.store.v1.rendition_pb2 import RenditionKind
from mesh.blobs import FileBlobs
from mesh.identity import media_id
from mesh.job_client import JobClient
from mesh.problems import Problem
from mesh.retry import DEFAULT_BACKOFF, Backoff
from mesh.rpc import Channels, GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door, as_itself
from tests.support.fake_job_service import FakeJobService

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
CAMERA = "front-door"
# Long, so that no lease is lost on a busy machine; progress is told often nevertheless.
LEASE_SECONDS, PROGRESS_SECONDS = 600.0, 0.3


@dataclass
class FactList:
    """Collects the published facts. While `problem` is set, publishing raises it."""

    blobs: FileBlobs
    facts: list[MediaRendered] = field(default_factory=list)
    problem: Problem | None = None
    tries: int = 0

    async def publish(self, fact: MediaRendered) -> None:
        self.tries += 1
        if self.problem:
            raise self.problem
        if fact.HasField("blob"):  # the content comes first
            assert await self.blobs.size(fact.blob.sha256) == fact.blob.size_bytes
        self.facts.append(fact)


@dataclass
class RenderWorkerBench:
    store: FakeJobService
    blobs: FileBlobs
    log: FactList
    worker: RenderWorker
    folder: Path

    @asynccontextmanager
    async def running(self) -> AsyncIterator["asyncio.Task[None]"]:
        with as_itself():
            task = asyncio.create_task(self.worker.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def source(
        self, path: Path, kind: MediaType.ValueType, frames: Sequence[int] = (), seconds: float = 0
    ) -> pb.RenderSource:
        """Keeps the file as a blob. It was captured at NOW."""
        blob = await self.blobs.put(path)
        media = Media(
            id=media_id(CAMERA, blob.sha256), camera_id=CAMERA, sha256=blob.sha256, type=kind,
            size_bytes=blob.size,
        )  # fmt: skip
        media.captured_at.FromDatetime(NOW)
        media.clip.duration.FromTimedelta(timedelta(seconds=seconds))
        made = pb.RenderSource(media=media)
        for index in frames:
            made.frames.add(index=index).captured_at.FromDatetime(NOW + timedelta(milliseconds=index))
        return made

    def due(
        self,
        kind: RenditionKind.ValueType,
        *sources: pb.RenderSource,
        start: float = 0,
        end: float = 0,
        attempt: int = 1,
    ) -> pb.JobLease:
        name = f"{kind} {len(self.log.facts)} {self.store.queue.qsize()} {len(self.store.asked)}"
        lease = pb.JobLease(
            lease_id=str(uuid5(NAMESPACE_OID, f"lease of {name}")),
            subject_id=str(uuid5(NAMESPACE_OID, f"rendition {name}")),
            attempt=attempt,
            render=pb.RenderInput(kind=kind, camera_id=CAMERA, sources=sources),
        )
        lease.render.start.FromDatetime(NOW + timedelta(seconds=start))
        lease.render.end.FromDatetime(NOW + timedelta(seconds=end))
        self.store.queue.put_nowait(lease)
        return lease

    def content(self, fact: MediaRendered) -> bytes:
        return self.path(fact.blob.sha256).read_bytes()

    def path(self, sha256: str) -> Path:
        return self.folder / "blobs" / sha256[:2] / sha256

    def stored(self) -> set[str]:
        """The names of all files among the blobs, and of those that are being written."""
        return {path.name for path in (self.folder / "blobs").rglob("*") if path.is_file()} - {
            path.name for path in (self.folder / "blobs" / ".locks").iterdir()
        }


@asynccontextmanager
async def open_render_worker(
    folder: Path, *, backoff: Backoff = DEFAULT_BACKOFF
) -> AsyncIterator[RenderWorkerBench]:
    """`folder` takes the store's socket and the blobs."""
    store, blobs = FakeJobService(pb.JOB_KIND_RENDER), FileBlobs(folder / "blobs")
    log = FactList(blobs)
    server = GrpcServer(CallInterceptor)
    server.add(add_JobServiceServicer_to_server, store, "lares.store.internal.v1.JobService")
    channels = Channels({}, {"store": await server.listen(f"unix:{folder}/s", door=Door.SIBLINGS)})
    await server.start()
    with patch("detect_svc.rendering.worker.PROGRESS_SECONDS", PROGRESS_SECONDS):
        worker = RenderWorker(
            JobClient(channels.to("store"), pb.JOB_KIND_RENDER),
            blobs,
            log.publish,
            lambda: NOW,
            lease_seconds=LEASE_SECONDS,
            max_pixels=10**8,
            max_seconds=60,
            backoff=backoff,
        )
    yield RenderWorkerBench(store, blobs, log, worker, folder)
    await channels.close()
    await server.stop(0)
    blobs.close()
