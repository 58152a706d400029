"""Composes ingest_svc."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import structlog
from opentelemetry.trace import Span

from ingest_svc.admission import Admission, CameraTable
from ingest_svc.announcing import Announcer, Publish
from ingest_svc.api import IngestServicer
from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.clip_probing import ClipProbe, clips_are_installed, probing_sandbox
from ingest_svc.detection_progress import DetectionProgress
from ingest_svc.facts import Fact, IngestedMedia, RejectedFile
from ingest_svc.file_importer import FileImporter
from ingest_svc.folder_lock import lock_folder
from ingest_svc.formats.inspection import MediaLimits
from ingest_svc.known_files import KnownFiles, StoreKnownFiles
from ingest_svc.leases import Leases
from ingest_svc.messages import ingested, rejected
from ingest_svc.originals import Originals
from ingest_svc.receiving.disk_space import DiskSpace
from ingest_svc.receiving.ftp.accounts import Accounts
from ingest_svc.receiving.ftp.camera_uploads import CameraUploads
from ingest_svc.receiving.push.application import PushApplication
from ingest_svc.receiving.push.authentication import PushAuthenticator
from ingest_svc.receiving.push.listener import listening_for_pushes
from ingest_svc.receiving.upload_progress import UploadProgress
from ingest_svc.receiving.upload_records import UploadRecords
from ingest_svc.receiving.uploads import Uploads
from ingest_svc.restless_files import WATCHING_THREADS, RestlessFiles
from ingest_svc.storage_state import StorageState
from ingest_svc.thread_pool import ThreadPool
from ingest_svc.turns import Progress, Turns
from ingest_svc.watching.camera_folders import CameraFolders
from ingest_svc.watching.completion import CompletionTracker
from ingest_svc.watching.folder_scan import FolderScan
from ingest_svc.watching.folder_watcher import FolderAway, watch_folder
from ingest_svc.watching.ignored_names import IgnoredNames
from ingest_svc.worker import IngestProgress, IngestWorker
from lares.ingest.v1.ingest_service_pb2_grpc import add_IngestServiceServicer_to_server
from mesh.blobs import Blobs
from mesh.blobs.factory import blob_folder
from mesh.cameras import open_camera_configurations
from mesh.config import Config
from mesh.mesh import Mesh
from mesh.problems import Unavailable
from mesh.topics import INGESTED, REJECTED, M, Topic

log = structlog.get_logger(__name__)

READER_THREADS = 3
PLAINTEXT = "others in the network can read passwords and media"
SERVICE = "lares.ingest.v1.IngestService"


class FactBus(Protocol):
    """The part of mesh.bus.Bus that ingest_svc uses to announce facts."""

    async def publish(self, topic: Topic[M], *messages: M, parents: Sequence[Span] = ()) -> None: ...

    def partition(self, topic: Topic[Any], key: str) -> int: ...


@dataclass(frozen=True)
class Ingest:
    """The parts with loops, `announcer`, `worker`, `leases` and `progress`, and the parts that take
    uploads."""

    announcer: Announcer
    worker: IngestWorker
    leases: Leases
    uploads: Uploads
    progress: UploadProgress
    admission: Admission
    camera_uploads: CameraUploads
    storage: StorageState


@asynccontextmanager
async def open(config: Config, mesh: Mesh) -> AsyncIterator[None]:
    """Watches the cameras folder, takes uploads and announces both until the block ends.

    Raises Conflict INGEST_RUNNING if another ingest uses this cameras folder.
    """
    async with AsyncExitStack() as stack:
        cameras = await stack.enter_async_context(open_camera_configurations(mesh.bus))
        store = mesh.channel("store")
        known_files, leases = StoreKnownFiles(store), Leases(store)
        records = UploadRecords(store, leases, config.upload_quota_bytes)
        detection = DetectionProgress(mesh.bus, store, mesh.replicas)
        parts = (config, cameras, known_files, leases, records, mesh.blobs, mesh.bus, detection.read)
        ingest = await stack.enter_async_context(compose(*parts))
        warnings = []
        if config.ftp_listen:
            # Not everybody has installed the library.
            from ingest_svc.receiving.ftp.server import open_ftp

            accounts = Accounts(mesh.keys.verify, ingest.admission)
            ftp = open_ftp(config, ingest.camera_uploads, accounts, mesh.tls)
            mesh.addresses["ftp"] = await stack.enter_async_context(ftp)
            if config.ftp_plaintext:
                warnings.append(f"FTP without TLS is allowed at {mesh.addresses['ftp']}: {PLAINTEXT}")
        servicer = IngestServicer(ingest.uploads, ingest.worker.caught_up, warnings)
        mesh.server.add(add_IngestServiceServicer_to_server, servicer, SERVICE, needs=["kafka", "blobs"])
        mesh.before_stop.append(ingest.uploads.interrupt)
        mesh.checks["storage"] = ingest.storage.check
        mesh.checks["cameras folder"] = readable(config.cameras_folder, ingest.worker.status)
        for name, work in (
            ("ingest announcer", ingest.announcer.run()),
            ("ingest cameras", ingest.worker.follow_cameras()),
            ("ingest worker", ingest.worker.run()),
            ("ingest leases", ingest.leases.run()),
            ("ingest upload progress", ingest.progress.keep_clean()),
        ):
            await stack.enter_async_context(mesh.running(name, work))
        if config.push_listen:
            app = PushApplication(ingest.uploads, PushAuthenticator(mesh.keys if config.auth else None))
            mesh.addresses["push"] = await stack.enter_async_context(
                listening_for_pushes(app, config, mesh.tls)
            )
        yield


@asynccontextmanager
async def compose(
    config: Config,
    cameras: CameraTable,
    known_files: KnownFiles,
    leases: Leases,
    records: UploadRecords,
    blobs: Blobs,
    bus: FactBus,
    detection: Progress,
) -> AsyncIterator[Ingest]:
    """Everything except the loops, which the caller runs. The cameras folder is watched once the block is
    entered. `detection` returns how far detect_svc has come."""
    try:
        config.cameras_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # ingest waits for it
        log.error("cameras folder not made", path=str(config.cameras_folder), error=str(error))
    limits = MediaLimits(
        config.ingest_max_bytes,
        config.ingest_max_pixels,
        config.clip_max_bytes,
        timedelta(seconds=config.clip_max_seconds),
        clips_installed=clips_are_installed(),
    )
    poll_seconds = config.ingest_poll_seconds if config.ingest_polling else None
    settle_seconds = config.ingest_settle_seconds
    ignored = IgnoredNames(config.ingest_ignore)
    private = [config.home, config.cache, blob_folder(config)]
    root = CamerasRoot(config.cameras_folder.resolve(), config.ingest_link_targets, private, ignored.folder)
    async with (
        lock_folder(root.path) as lock,
        watch_folder(root, lock, poll_seconds, ignored) as watcher,
        probing_sandbox() as sandbox,
    ):
        with (
            closing(ThreadPool("ingest-checks", 1)) as checks,
            closing(ThreadPool("ingest-readers", READER_THREADS)) as readers,
            closing(ThreadPool("ingest-large", 1)) as large_reader,
            closing(ThreadPool("ingest-watchers", WATCHING_THREADS)) as watchers,
        ):
            folders = CameraFolders(lambda camera_id: cameras.get(camera_id) is not None)
            seconds = config.ingest_clock_tolerance_seconds
            tolerance = None if seconds is None else timedelta(seconds=seconds)
            admission = Admission(folders, cameras, config.time_zone, tolerance, root.refusal)
            take = config.ingest_originals == "take"
            originals = Originals(root, take, admission, limits, blobs, readers)
            await originals.recover()
            await blobs.prepare()
            announcer = Announcer(publishing(bus, known_files, originals))
            storage = StorageState()
            restless = RestlessFiles(root, readers, watchers)
            clips = ClipProbe(sandbox, limits)
            importer = FileImporter(
                root, blobs, limits, storage, readers, large_reader, checks, restless, clips
            )
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
                turns=Turns(detection, lambda camera_id: bus.partition(INGESTED, camera_id)),
                cameras=cameras,
                ignored=ignored,
                checks=checks,
            )
            space = DiskSpace(blobs.free_bytes, storage, readers)
            progress = UploadProgress(records, blobs, space, storage, readers)
            uploads = Uploads(admission, limits, announcer, storage, readers, clips, progress, space)
            largest = max(config.ingest_max_bytes, config.clip_max_bytes)
            camera_uploads = CameraUploads(root, ignored, largest, worker.why_away)
            yield Ingest(announcer, worker, leases, uploads, progress, admission, camera_uploads, storage)


def publishing(bus: FactBus, known_files: KnownFiles, originals: Originals) -> Publish:
    """Returns the function that publishes facts and then removes the originals of the media among them. It
    marks media whose content the store knows, so that they are not looked at again."""

    async def publish(facts: list[Fact], spans: list[Span]) -> None:
        with_span = list(zip(facts, spans, strict=True))
        media = [(fact, span) for fact, span in with_span if isinstance(fact, IngestedMedia)]
        rejections = [(fact, span) for fact, span in with_span if isinstance(fact, RejectedFile)]
        if media:
            asked = [one.id for one, _ in media if one.may_be_known]
            known = await known_files.media(asked) if asked else set[str]()
            messages = [ingested(one, one.id in known) for one, _ in media]
            await bus.publish(INGESTED, *messages, parents=[span for _, span in media])
        if rejections:
            rejected_messages = [rejected(rejection) for rejection, _ in rejections]
            await bus.publish(REJECTED, *rejected_messages, parents=[span for _, span in rejections])
        await originals.announced([one.file for one, _ in media if one.file])

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
            raise FolderAway("it cannot be read")

    return check
