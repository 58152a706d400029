"""Composes ingest_svc."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from opentelemetry.trace import Span

from ingest_svc.admission import Admission
from ingest_svc.announcing import Announcer, Publish
from ingest_svc.api import IngestServicer
from ingest_svc.catalogue import Catalogue
from ingest_svc.folders import Folders
from ingest_svc.inspection import Limits
from ingest_svc.intake import Intake
from ingest_svc.lock import locked
from ingest_svc.messages import ingested, rejected
from ingest_svc.originals import Originals
from ingest_svc.photo import Fact, Photo, Rejection
from ingest_svc.scan import Knowledge, Scan
from ingest_svc.settling import Settling
from ingest_svc.threads import Threads
from ingest_svc.upload import Uploads
from ingest_svc.watch import watching
from ingest_svc.worker import CameraTable, Worker
from lares.ingest.v1.ingest_service_pb2_grpc import add_IngestServiceServicer_to_server
from mesh.blobs import Blobs
from mesh.cameras import open_camera_configurations
from mesh.config import Config
from mesh.mesh import Mesh
from mesh.problems import Unavailable
from mesh.topics import INGESTED, REJECTED, M, Topic

READERS = 3
SERVICE = "lares.ingest.v1.IngestService"


class Publisher(Protocol):
    """The part of mesh.bus.Bus that is needed here."""

    async def publish(self, topic: Topic[M], *messages: M, parents: Sequence[Span] = ()) -> None: ...


@dataclass(frozen=True)
class Ingest:
    """What runs (`announcer`, `worker`) and what answers (`uploads`, and the worker's status)."""

    announcer: Announcer
    worker: Worker
    uploads: Uploads


@asynccontextmanager
async def open(config: Config, mesh: Mesh) -> AsyncIterator[None]:
    """Watches, takes uploads and announces until the block ends. Raises Conflict INGEST_RUNNING where
    another ingest has this cameras folder, Unavailable WATCH_REFUSED."""
    async with AsyncExitStack() as stack:
        cameras = await stack.enter_async_context(open_camera_configurations(mesh.bus))
        catalogue = Catalogue(mesh.channel("store"))
        ingest = await stack.enter_async_context(composed(config, cameras, catalogue, mesh.blobs, mesh.bus))
        servicer = IngestServicer(ingest.uploads, ingest.worker.caught_up)
        mesh.server.add(add_IngestServiceServicer_to_server, servicer, SERVICE, needs=["kafka", "blobs"])
        mesh.checks["cameras folder"] = readable(config.cameras_folder)
        for name, work in (
            ("ingest announcer", ingest.announcer.run()),
            ("ingest cameras", ingest.worker.follow()),
            ("ingest worker", ingest.worker.run()),
        ):
            await stack.enter_async_context(mesh.running(name, work))
        yield


@asynccontextmanager
async def composed(
    config: Config, cameras: CameraTable, catalogue: Knowledge, blobs: Blobs, bus: Publisher
) -> AsyncIterator[Ingest]:
    """Everything but the loops, which the caller runs. The watch is on when the block is entered."""
    config.cameras_folder.mkdir(parents=True, exist_ok=True)
    root = config.cameras_folder.resolve()
    limits = Limits(config.ingest_max_bytes, config.ingest_max_pixels)
    polling = config.ingest_poll_seconds if config.ingest_polling else None
    async with locked(root) as lock, watching(root, polling) as watch:
        with closing(Threads("ingest-looks", 1)) as looks, closing(Threads("ingest-reads", READERS)) as reads:
            folders, settling = Folders(), Settling(config.ingest_settle_seconds)
            admission = Admission(folders, cameras, config.time_zone)
            take = config.ingest_originals == "take"
            originals = Originals(root, take, admission, limits, blobs, reads)
            await originals.recover()
            await blobs.prepare()
            announcer = Announcer(publishing(bus, originals))
            intake = Intake(root, blobs, limits, reads, looks)
            settle = config.ingest_settle_seconds
            scan = Scan(root, lock.clock, settle, admission, catalogue, originals.known, watch.writing, looks)
            worker = Worker(
                root, watch, settling, folders, admission, scan, intake, announcer, cameras, looks
            )
            yield Ingest(announcer, worker, Uploads(admission, limits, blobs, announcer, reads))


def publishing(bus: Publisher, originals: Originals) -> Publish:
    """What makes facts durable and known, and then lets go of their originals."""

    async def publish(facts: list[Fact], spans: list[Span]) -> None:
        told = list(zip(facts, spans, strict=True))
        photos = [(fact, span) for fact, span in told if isinstance(fact, Photo)]
        rejections = [(fact, span) for fact, span in told if isinstance(fact, Rejection)]
        if photos:
            messages = [ingested(photo) for photo, _ in photos]
            await bus.publish(INGESTED, *messages, parents=[span for _, span in photos])
        if rejections:
            refused = [rejected(rejection) for rejection, _ in rejections]
            await bus.publish(REJECTED, *refused, parents=[span for _, span in rejections])
        await originals.announced([photo.file for photo, _ in photos if photo.file])

    return publish


def readable(root: Path) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        if not os.access(root, os.R_OK | os.X_OK):
            raise Unavailable("the cameras folder cannot be read", "CAMERAS_FOLDER")

    return check
