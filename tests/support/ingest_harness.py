"""ingest_svc on a real file system with real blobs, and with fakes of the bus, the cameras and the store."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry.trace import Span

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.fingerprint import Fingerprint, fingerprint
from ingest_svc.leases import Lease, Leases
from ingest_svc.receiving.upload_records import UploadRecords
from ingest_svc.service import Ingest, compose
from ingest_svc.turns import PartitionProgress
from ingest_svc.watching.open_files import open_for_writing
from ingest_svc.worker import IngestWorker
from lares.ingest.v1.events_pb2 import MediaIngested, MediaRejected
from lares.ingest.v1.media_pb2 import Media, RejectionReason
from lares.store.v1.camera_pb2 import Camera
from lares.store.v1.events_pb2 import CameraConfigured
from mesh.blobs import Blobs, FileBlobs
from mesh.config import Config, load_config
from mesh.lease_clock import lease_time
from mesh.problems import Unavailable
from mesh.rpc import GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import as_itself
from mesh.topics import CAMERA_PARTITIONS, M, Topic
from tests.support.fake_leases import FakeUploadService, add_fake_leases
from tests.support.waiting import until

# The Lares to which the harness belongs.
OWNER = "the owner"


class FakeBus:
    """Keeps what was published, and the paths of photos that were part of a backlog. It raises `failures`
    first, and waits while `open` is not set. `detected` returns, of a partition and its number of photos, how
    many are detected; at first all are."""

    def __init__(self) -> None:
        self.media: list[Media] = []
        self.backlog: list[str] = []
        self.rejections: list[MediaRejected] = []
        self.batches: list[int] = []
        self.failures: list[Exception] = []
        self.attempts = 0
        self.open = asyncio.Event()
        self.open.set()
        self.detected: Callable[[int, int], int] = lambda partition, announced: announced
        self.progress_failures = 0

    async def detection(self) -> dict[int, PartitionProgress]:
        if self.progress_failures:
            self.progress_failures -= 1
            raise Unavailable("Kafka does not answer", "BUS_UNAVAILABLE")
        ends = Counter(self.partition_of(media.camera_id) for media in self.media)
        return {
            partition: PartitionProgress(detected, detected, ends[partition])
            for partition in range(CAMERA_PARTITIONS)
            if (detected := self.detected(partition, ends[partition])) >= 0
        }

    def partition(self, topic: Topic[Any], key: str) -> int:
        return self.partition_of(key)

    def partition_of(self, camera_id: str) -> int:
        return sum(camera_id.encode()) % CAMERA_PARTITIONS

    async def publish(self, topic: Topic[M], *messages: M, parents: Sequence[Span] = ()) -> None:
        self.attempts += 1
        await self.open.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(len(messages))
        for message in messages:
            if isinstance(message, MediaIngested):
                self.media.append(message.media)
                if message.backlog:
                    self.backlog.append(message.media.file.path)
            elif isinstance(message, MediaRejected):
                self.rejections.append(message)


class FakeCameras:
    def __init__(self) -> None:
        self._table: dict[str, CameraConfigured] = {}
        self._changes: asyncio.Queue[CameraConfigured] = asyncio.Queue()

    def configure(
        self,
        camera_id: str,
        *,
        enabled: bool = True,
        deleted: bool = False,
        time_zone: str = "",
        created: int = 1,
    ) -> None:
        """`created` is in seconds since 1970."""
        camera = Camera(
            id=camera_id, enabled=enabled, time_zone=time_zone, created_at=Timestamp(seconds=created)
        )
        self._table[camera_id] = CameraConfigured(camera=camera, deleted=deleted)
        self._changes.put_nowait(self._table[camera_id])

    def get(self, camera_id: str) -> CameraConfigured | None:
        return self._table.get(camera_id)

    def all(self) -> list[CameraConfigured]:
        return [configured for configured in self._table.values() if not configured.deleted]

    async def subscribe(self) -> AsyncIterator[CameraConfigured]:
        while True:
            yield await self._changes.get()


class FakeKnownFiles:
    """Knows the files given to `add`, and the media in `media_ids`. It waits while `available` is not set."""

    def __init__(self) -> None:
        self.files: set[Fingerprint] = set()
        self.asked: list[Fingerprint] = []
        self.media_ids: set[str] = set()
        self.asked_media: list[str] = []
        self.page = 1000
        self.available = asyncio.Event()
        self.available.set()

    def add(self, root: Path, *paths: str) -> None:
        for path in paths:
            file = fingerprint(CamerasRoot(root), path)
            assert file is not None
            self.files.add(file)

    async def unknown(self, files: Sequence[Fingerprint]) -> list[Fingerprint]:
        assert len(files) <= self.page
        self.asked += files
        await self.available.wait()
        return [file for file in files if file not in self.files]

    async def media(self, media_ids: Sequence[str]) -> set[str]:
        assert 0 < len(media_ids) <= self.page
        self.asked_media += media_ids
        return self.media_ids & set(media_ids)


@dataclass(frozen=True)
class WatchingIngest(Ingest):
    """With what watches the cameras folder."""

    worker: IngestWorker


class IngestHarness:
    """`store` is a channel to leases and uploads; without it there are fakes within this process."""

    def __init__(self, home: Path, store: grpc.aio.Channel | None = None) -> None:
        self.home, self.root = home, home / "cameras"
        self.uploads, self._store = FakeUploadService(), store
        self.root.mkdir(parents=True, exist_ok=True)
        self.bus, self.cameras, self.known_files = FakeBus(), FakeCameras(), FakeKnownFiles()
        self.settings: dict[str, object] = {}
        (home / "media").mkdir(exist_ok=True)
        self.blobs: Blobs = FileBlobs(home / "media")
        # That of the cameras folder.
        self.lease = Lease(1, 10**6, lease_time())
        self.ingest: WatchingIngest

    def config(self) -> Config:
        return load_config(home=self.home, **self.settings)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WatchingIngest]:
        """Runs the loops, and fails if one of them failed."""
        server = GrpcServer(CallInterceptor)
        add_fake_leases(server, self.uploads)
        await server.start()
        try:
            async with self._composed(self._store or server.channel()) as self.ingest:
                yield self.ingest
        finally:
            await server.stop(0)

    @asynccontextmanager
    async def _composed(self, store: grpc.aio.Channel) -> AsyncIterator[WatchingIngest]:
        async with self.composed(store) as ingest, ingest.duty.watching(self.lease) as watching:
            with as_itself():
                work = [*ingest.loops.values(), *watching.loops]
                loops = [asyncio.create_task(loop) for loop in work]
            try:
                yield WatchingIngest(**vars(ingest), worker=watching.worker)
            finally:
                failures = [task.exception() for task in loops if task.done()]
                for task in loops:
                    task.cancel()
                await asyncio.gather(*loops, return_exceptions=True)
            assert not failures

    def composed(self, store: grpc.aio.Channel) -> AbstractAsyncContextManager[Ingest]:
        config, leases = self.config(), Leases(store, "the harness")
        records = UploadRecords(store, leases, config.upload_quota_bytes)
        parts = (config, self.cameras, self.known_files, leases, records, self.blobs, self.bus)
        return compose(*parts, self.bus.detection, OWNER)

    def drop(self, path: str, content: bytes, mtime: float | None = None) -> Path:
        """Moves a complete file into place, as a careful camera does."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = self.home / f"{time.monotonic_ns()}.part"
        partial.write_bytes(content)
        if mtime is not None:
            os.utime(partial, (mtime, mtime))
        return partial.rename(target)

    @property
    def idle(self) -> bool:
        status = self.ingest.worker.status()
        return not (status.settling or status.unannounced or status.scanning)

    @property
    def paths(self) -> list[str]:
        """The paths of the announced photos, in order."""
        return [media.file.path for media in self.bus.media]

    @property
    def rejected(self) -> dict[str, str]:
        """The reason of each rejection, by path."""
        return {
            rejection.file.path: RejectionReason.Name(rejection.reason).removeprefix("REJECTION_REASON_")
            for rejection in self.bus.rejections
        }


async def until_checked(monkeypatch: pytest.MonkeyPatch, file: Path, times: int = 3) -> None:
    """Waits until the worker has checked `times` times whether the file is complete. It checks once in every
    `ingest_settle_seconds`."""
    checks = list[Path]()

    def counting(path: Path) -> bool | None:
        checks.append(path)
        return open_for_writing(path)

    with monkeypatch.context() as patched:
        patched.setattr("ingest_svc.watching.folder_watcher.open_for_writing", counting)
        await until(lambda: checks.count(file) >= times)
