"""Composes ingest_svc."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from opentelemetry.trace import Span

from ingest_svc.admission import Admission, CameraTable
from ingest_svc.announcing import Announcer, Publish
from ingest_svc.api import IngestServicer
from ingest_svc.facts import Fact, Photo, RejectedFile
from ingest_svc.file_importer import FileImporter
from ingest_svc.folder_lock import lock_folder
from ingest_svc.formats.inspection import PhotoLimits
from ingest_svc.known_files import KnownFiles, StoreKnownFiles
from ingest_svc.messages import ingested, rejected
from ingest_svc.originals import Originals
from ingest_svc.receiving.uploads import Uploads
from ingest_svc.thread_pool import ThreadPool
from ingest_svc.watching.camera_folders import CameraFolders
from ingest_svc.watching.completion import CompletionTracker
from ingest_svc.watching.folder_scan import FolderScan
from ingest_svc.watching.folder_watcher import watch_folder
from ingest_svc.watching.ignored_names import IgnoredNames
from ingest_svc.worker import IngestProgress, IngestWorker
from lares.ingest.v1.ingest_service_pb2_grpc import add_IngestServiceServicer_to_server
from mesh.blobs import Blobs
from mesh.cameras import open_camera_configurations
from mesh.config import Config
from mesh.mesh import Mesh
from mesh.problems import Unavailable
from mesh.topics import INGESTED, REJECTED, M, Topic

READER_THREADS = 3
SERVICE = "lares.ingest.v1.IngestService"


class FactPublisher(Protocol):
    """The part of mesh.bus.Bus that ingest_svc uses to announce facts."""

    async def publish(self, topic: Topic[M], *messages: M, parents: Sequence[Span] = ()) -> None: ...


@dataclass(frozen=True)
class Ingest:
    """The parts with loops, `announcer` and `worker`, and the part that takes uploads."""

    announcer: Announcer
    worker: IngestWorker
    uploads: Uploads


@asynccontextmanager
async def open(config: Config, mesh: Mesh) -> AsyncIterator[None]:
    """Watches the cameras folder, takes uploads and announces both until the block ends.

    Raises Conflict INGEST_RUNNING if another ingest uses this cameras folder, and Unavailable WATCH_REFUSED.
    """
    async with AsyncExitStack() as stack:
        cameras = await stack.enter_async_context(open_camera_configurations(mesh.bus))
        known_files = StoreKnownFiles(mesh.channel("store"))
        ingest = await stack.enter_async_context(compose(config, cameras, known_files, mesh.blobs, mesh.bus))
        servicer = IngestServicer(ingest.uploads, ingest.worker.caught_up)
        mesh.server.add(add_IngestServiceServicer_to_server, servicer, SERVICE, needs=["kafka", "blobs"])
        mesh.checks["cameras folder"] = readable(config.cameras_folder, ingest.worker.status)
        for name, work in (
            ("ingest announcer", ingest.announcer.run()),
            ("ingest cameras", ingest.worker.follow_cameras()),
            ("ingest worker", ingest.worker.run()),
        ):
            await stack.enter_async_context(mesh.running(name, work))
        yield


@asynccontextmanager
async def compose(
    config: Config, cameras: CameraTable, known_files: KnownFiles, blobs: Blobs, bus: FactPublisher
) -> AsyncIterator[Ingest]:
    """Everything except the loops, which the caller runs. The cameras folder is watched once the block is
    entered."""
    config.cameras_folder.mkdir(parents=True, exist_ok=True)
    root = config.cameras_folder.resolve()
    limits = PhotoLimits(config.ingest_max_bytes, config.ingest_max_pixels)
    poll_seconds = config.ingest_poll_seconds if config.ingest_polling else None
    settle_seconds = config.ingest_settle_seconds
    ignored = IgnoredNames(config.ingest_ignore)
    async with lock_folder(root) as lock, watch_folder(root, lock, poll_seconds, ignored) as watcher:
        with (
            closing(ThreadPool("ingest-checks", 1)) as checks,
            closing(ThreadPool("ingest-readers", READER_THREADS)) as readers,
        ):
            folders = CameraFolders()
            admission = Admission(folders, cameras, config.time_zone)
            take = config.ingest_originals == "take"
            originals = Originals(root, take, admission, limits, blobs, readers)
            await originals.recover()
            await blobs.prepare()
            announcer = Announcer(publishing(bus, originals))
            importer = FileImporter(root, blobs, limits, readers, checks)
            scan = FolderScan(
                root,
                clock=lock.clock,
                settle_seconds=settle_seconds,
                owner=admission.of_file,
                known_files=known_files,
                on_known=originals.known,
                open_for_writing=watcher.open_for_writing,
                ignored=ignored,
                on_failure=watcher.watch.distrust,
                checks=checks,
            )
            worker = IngestWorker(
                root,
                watcher=watcher,
                completion=CompletionTracker(settle_seconds),
                folders=folders,
                admission=admission,
                scan=scan,
                importer=importer,
                announcer=announcer,
                cameras=cameras,
                ignored=ignored,
                checks=checks,
            )
            yield Ingest(announcer, worker, Uploads(admission, limits, blobs, announcer, readers))


def publishing(bus: FactPublisher, originals: Originals) -> Publish:
    """Returns the function that publishes facts and then removes the originals of the photos among them."""

    async def publish(facts: list[Fact], spans: list[Span]) -> None:
        with_span = list(zip(facts, spans, strict=True))
        photos = [(fact, span) for fact, span in with_span if isinstance(fact, Photo)]
        rejections = [(fact, span) for fact, span in with_span if isinstance(fact, RejectedFile)]
        if photos:
            messages = [ingested(photo) for photo, _ in photos]
            await bus.publish(INGESTED, *messages, parents=[span for _, span in photos])
        if rejections:
            rejected_messages = [rejected(rejection) for rejection, _ in rejections]
            await bus.publish(REJECTED, *rejected_messages, parents=[span for _, span in rejections])
        await originals.announced([photo.file for photo, _ in photos if photo.file])

    return publish


def readable(root: Path, status: Callable[[], IngestProgress]) -> Callable[[], Awaitable[None]]:
    """The readiness check of the cameras folder, and of the folders in it."""
    asking: asyncio.Task[bool] | None = None

    async def check() -> None:
        nonlocal asking
        found = status()
        if found.problem:
            raise Unavailable(found.problem, "CAMERAS_FOLDER")
        if found.unreadable:
            raise Unavailable(f"cannot be read: {', '.join(found.unreadable[:5])}", "CAMERAS_FOLDER")
        if asking is None or asking.done():  # a share that hangs does not block one thread for each question
            asking = asyncio.create_task(asyncio.to_thread(os.access, root, os.R_OK | os.X_OK))
        if not await asyncio.shield(asking):
            raise Unavailable("the cameras folder cannot be read", "CAMERAS_FOLDER")

    return check
