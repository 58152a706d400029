"""Composes ingest_svc."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
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
from ingest_svc.fingerprint import Fingerprint
from ingest_svc.folder_duty import FolderDuty, FolderWatching
from ingest_svc.folder_lock import FolderLock, lock_folder
from ingest_svc.formats.inspection import MediaLimits
from ingest_svc.known_files import KnownFiles, StoreKnownFiles
from ingest_svc.leases import Lease, Leases, holder_of
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
from ingest_svc.worker import IngestWorker
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
    """The parts with loops, `announcer`, `leases`, `duty` and `progress`, and those that take uploads.
    `announcer` is that of uploads; the files of the cameras folder have one of their own."""

    announcer: Announcer
    leases: Leases
    duty: FolderDuty
    uploads: Uploads
    progress: UploadProgress
    admission: Admission
    camera_uploads: CameraUploads
    storage: StorageState

    @property
    def loops(self) -> dict[str, Coroutine[Any, Any, None]]:
        return {
            "ingest announcer": self.announcer.run(),
            "ingest leases": self.leases.run(),
            "ingest upload progress": self.progress.keep_clean(),
        }


@asynccontextmanager
async def open(config: Config, mesh: Mesh) -> AsyncIterator[None]:
    """Watches the cameras folder, or stands by, takes uploads and announces both until the block ends.

    Raises Conflict INGEST_RUNNING if another Lares uses this cameras folder.
    """
    async with AsyncExitStack() as stack:
        cameras = await stack.enter_async_context(open_camera_configurations(mesh.bus))
        store = mesh.channel("store")
        detection = DetectionProgress(mesh.bus, store, mesh.replicas)
        owner = await mesh.bus.topic_id(INGESTED)  # the same for all that share this Kafka
        leases = Leases(store, await asyncio.to_thread(holder_of, config.home))
        records = UploadRecords(store, leases, config.upload_quota_bytes)
        known_files = StoreKnownFiles(store)
        parts = (config, cameras, known_files, leases, records, mesh.blobs, mesh.bus, detection.read)
        ingest = await stack.enter_async_context(compose(*parts, owner))
        warnings = []
        if config.ftp_listen:
            # Not everybody has installed the library.
            from ingest_svc.receiving.ftp.server import open_ftp

            accounts = Accounts(mesh.keys.verify, ingest.admission)
            ftp = open_ftp(config, ingest.camera_uploads, accounts, mesh.tls)
            mesh.addresses["ftp"] = await stack.enter_async_context(ftp)
            if config.ftp_plaintext:
                warnings.append(f"FTP without TLS is allowed at {mesh.addresses['ftp']}: {PLAINTEXT}")
        servicer = IngestServicer(ingest.uploads, ingest.duty, warnings)
        mesh.server.add(add_IngestServiceServicer_to_server, servicer, SERVICE, needs=["kafka", "blobs"])
        mesh.before_stop += [ingest.uploads.interrupt, ingest.duty.stop]
        mesh.checks["storage"] = ingest.storage.check
        mesh.checks["cameras folder"] = readable(config.cameras_folder, ingest.duty)
        for name, work in (ingest.loops | {"ingest cameras folder": ingest.duty.run()}).items():
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
    owner: str,
) -> AsyncIterator[Ingest]:
    """Everything except the loops, which the caller runs. `detection` returns how far detect_svc has come,
    `owner` names the Lares to which this process belongs."""
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
    ignored = IgnoredNames(config.ingest_ignore)
    private = [config.home, config.cache, blob_folder(config)]
    root = CamerasRoot(config.cameras_folder.resolve(), config.ingest_link_targets, private, ignored.folder)
    async with AsyncExitStack() as stack:
        lock = await stack.enter_async_context(lock_folder(root.path, owner)) if config.ingest_watch else None
        sandbox = await stack.enter_async_context(probing_sandbox())
        checks = stack.enter_context(closing(ThreadPool("ingest-checks", 1)))
        readers = stack.enter_context(closing(ThreadPool("ingest-readers", READER_THREADS)))
        folders = CameraFolders(lambda camera_id: cameras.get(camera_id) is not None)
        seconds = config.ingest_clock_tolerance_seconds
        tolerance = None if seconds is None else timedelta(seconds=seconds)
        admission = Admission(folders, cameras, config.time_zone, tolerance, root.refusal)
        storage, clips = StorageState(), ClipProbe(sandbox, limits)
        await blobs.prepare()

        @asynccontextmanager
        async def watching(lease: Lease) -> AsyncIterator[FolderWatching]:
            assert lock is not None
            known = WatchedParts(
                root, ignored, lock, folders, cameras, admission, limits, storage, clips, checks, readers
            )
            async with watch(config, known, known_files, blobs, bus, detection, lease) as found:
                yield found

        duty = FolderDuty(
            root,
            leases,
            config.watch_lease_seconds,
            watching,
            may_watch=config.ingest_watch,
            may_receive=bool(config.ftp_listen),
            folders=folders,
            ignored=ignored,
            checks=checks,
        )
        space = DiskSpace(blobs.free_bytes, storage, readers)
        progress = UploadProgress(records, blobs, space, storage, readers)
        announcer = Announcer(publishing(bus, known_files))
        uploads = Uploads(admission, limits, announcer, storage, readers, clips, progress, space)
        largest = max(config.ingest_max_bytes, config.clip_max_bytes)
        camera_uploads = CameraUploads(root, ignored, largest, duty.why_away)
        yield Ingest(announcer, leases, duty, uploads, progress, admission, camera_uploads, storage)


@dataclass(frozen=True)
class WatchedParts:
    """What the watching of the cameras folder shares with the receivers."""

    root: CamerasRoot
    ignored: IgnoredNames
    lock: FolderLock
    folders: CameraFolders
    cameras: CameraTable
    admission: Admission
    limits: MediaLimits
    storage: StorageState
    clips: ClipProbe
    checks: ThreadPool
    readers: ThreadPool


@asynccontextmanager
async def watch(
    config: Config,
    shared: WatchedParts,
    known_files: KnownFiles,
    blobs: Blobs,
    bus: FactBus,
    detection: Progress,
    lease: Lease,
) -> AsyncIterator[FolderWatching]:
    """Watches the cameras folder until the block ends, except for the loops, which the caller runs. Facts are
    published, and originals removed, only while the lease is held."""
    root, ignored, lock = shared.root, shared.ignored, shared.lock
    poll_seconds = config.ingest_poll_seconds if config.ingest_polling else None
    settle_seconds = config.ingest_settle_seconds
    async with watch_folder(root, lock, poll_seconds, ignored) as watcher:
        with (
            closing(ThreadPool("ingest-large", 1)) as large_reader,
            closing(ThreadPool("ingest-watchers", WATCHING_THREADS)) as watchers,
        ):
            take = config.ingest_originals == "take"
            originals = Originals(root, take, shared.admission, shared.limits, blobs, shared.readers)
            await originals.recover()
            announcer = Announcer(publishing(bus, known_files, originals, lease))

            async def remove_known(files: list[Fingerprint]) -> None:
                if files:
                    await lease.until_held()
                    await originals.known(files)

            restless = RestlessFiles(root, shared.readers, watchers)
            importer = FileImporter(
                root,
                blobs,
                shared.limits,
                shared.storage,
                shared.readers,
                large_reader,
                shared.checks,
                restless,
                shared.clips,
            )
            scan = FolderScan(
                root,
                clock=lock.clock,
                settle_seconds=settle_seconds,
                owner=shared.admission.of_file,
                known_files=known_files,
                on_known=remove_known,
                open_for_writing=watcher.open_for_writing,
                ignored=ignored,
                on_failure=watcher.watch.distrust,
                checks=shared.checks,
            )
            worker = IngestWorker(
                root,
                watcher=watcher,
                completion=CompletionTracker(settle_seconds),
                folders=shared.folders,
                admission=shared.admission,
                scan=scan,
                importer=importer,
                announcer=announcer,
                turns=Turns(detection, lambda camera_id: bus.partition(INGESTED, camera_id)),
                cameras=shared.cameras,
                ignored=ignored,
                checks=shared.checks,
            )
            yield FolderWatching(announcer, worker)


def publishing(
    bus: FactBus, known_files: KnownFiles, originals: Originals | None = None, lease: Lease | None = None
) -> Publish:
    """Returns the function that publishes facts and then removes the originals of the media among them, both
    while the lease is held. It marks media whose content the store knows, so that they are not looked at
    again."""

    async def publish(facts: list[Fact], spans: list[Span]) -> None:
        with_span = list(zip(facts, spans, strict=True))
        media = [(fact, span) for fact, span in with_span if isinstance(fact, IngestedMedia)]
        rejections = [(fact, span) for fact, span in with_span if isinstance(fact, RejectedFile)]
        if media:
            asked = [one.id for one, _ in media if one.may_be_known]
            known = await known_files.media(asked) if asked else set[str]()
            messages = [ingested(one, one.id in known) for one, _ in media]
            if lease:
                await lease.until_held()
            await bus.publish(INGESTED, *messages, parents=[span for _, span in media])
        if rejections:
            rejected_messages = [rejected(rejection) for rejection, _ in rejections]
            if lease:
                await lease.until_held()
            await bus.publish(REJECTED, *rejected_messages, parents=[span for _, span in rejections])
        if originals and lease:
            await lease.until_held()
            await originals.announced([one.file for one, _ in media if one.file])

    return publish


def readable(root: Path, duty: FolderDuty) -> Callable[[], Awaitable[None]]:
    """The readiness check of the cameras folder, and of the folders in it. A process that stands by is ready;
    one that does not use the folder, too."""
    asking: asyncio.Task[bool] | None = None

    async def check() -> None:
        nonlocal asking
        found = duty.status()
        if found.problem:
            raise Unavailable(found.problem, "CAMERAS_FOLDER")
        if found.unreadable:
            raise Unavailable(f"cannot be read: {', '.join(found.unreadable[:5])}", "CAMERAS_FOLDER")
        if not duty.is_needed:
            return
        if asking is None or asking.done():  # a share that hangs does not block one thread for each question
            asking = asyncio.create_task(asyncio.to_thread(os.access, root, os.R_OK | os.X_OK))
        if not await asyncio.shield(asking):
            raise FolderAway("it cannot be read")

    return check
