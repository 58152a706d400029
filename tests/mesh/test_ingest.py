"""ingest_svc as the composition root opens it, with a real broker, gRPC over a Unix socket, and kill -9."""

import asyncio
import hashlib
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Collection
from functools import partial
from pathlib import Path

import pytest

from ingest_svc.folder_lock import lock_folder
from ingest_svc.turns import MAX_UNDETECTED
from lares.ingest.v1.events_pb2 import MediaIngested, MediaRejected
from lares.ingest.v1.ingest_service_pb2 import GetIngestStatusRequest, UploadHeader, UploadMediaRequest
from lares.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from lares.ingest.v1.media_pb2 import Media, RejectionReason
from lares.store.internal.v1.file_service_pb2_grpc import add_FileServiceServicer_to_server
from lares.store.internal.v1.offset_service_pb2_grpc import add_OffsetServiceServicer_to_server
from lares.store.v1.camera_pb2 import Camera
from lares.store.v1.events_pb2 import CameraConfigured
from mesh.bus import Bus, Stream, Tail
from mesh.problems import Conflict
from mesh.rpc import Channels, GrpcServer, call, metadata
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door
from mesh.topics import CAMERAS, INGESTED, REJECTED
from tests.support.fake_leases import FakeUploadService, add_fake_leases
from tests.support.image_files import jpeg
from tests.support.ingest_process import FakeFileService, FakeOffsetService, running_ingest
from tests.support.records import unique
from tests.support.waiting import until, until_async

ROOT = Path(__file__).parents[2]
KILLS = 5


class TopicReader:
    """Reads the facts about this test's cameras from the topics of ingest_svc, in order."""

    def __init__(self, prefix: str, store: FakeFileService) -> None:
        self._prefix, self._store = prefix, store
        self.media: list[Media] = []
        self.rejections: list[MediaRejected] = []

    async def read_media(self, tail: Tail[MediaIngested]) -> None:
        async for delivery in tail:
            if delivery.message.media.camera_id.startswith(self._prefix):
                self.media.append(delivery.message.media)
                self._store.record(delivery.message.media.file)

    async def read_rejections(self, tail: Tail[MediaRejected]) -> None:
        async for delivery in tail:
            if delivery.message.camera_id.startswith(self._prefix):
                self.rejections.append(delivery.message)
                self._store.record(delivery.message.file)

    def has(self, paths: Collection[str]) -> bool:
        return set(paths) <= {media.file.path for media in self.media}

    def paths_of(self, camera: str) -> list[str]:
        """The paths of a camera's photos, in the order of their first announcement."""
        return list(dict.fromkeys(media.file.path for media in self.media if media.camera_id == camera))


@pytest.fixture
async def prefix() -> str:
    return unique("ingest")


@pytest.fixture
async def store() -> FakeFileService:
    return FakeFileService()


@pytest.fixture
async def log(bus: Bus, prefix: str, store: FakeFileService) -> AsyncIterator[TopicReader]:
    log = TopicReader(prefix, store)
    async with bus.tail(INGESTED) as media, bus.tail(REJECTED) as rejections:
        reading = [
            asyncio.create_task(log.read_media(media)),
            asyncio.create_task(log.read_rejections(rejections)),
        ]
        yield log
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


@pytest.fixture
async def offsets() -> FakeOffsetService:
    return FakeOffsetService()


@pytest.fixture
async def detecting(bus: Bus, offsets: FakeOffsetService) -> AsyncIterator[None]:
    """Reads what detect_svc reads, and does it at once: a backlog waits until what was announced is done."""

    async with bus.consume(INGESTED, "detect_svc", offsets=offsets) as stream:
        reading = asyncio.create_task(read_all(stream))
        yield
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


@pytest.fixture
async def store_socket(
    store: FakeFileService, offsets: FakeOffsetService, tmp_path: Path
) -> AsyncIterator[str]:
    server = GrpcServer(CallInterceptor)
    server.add(add_FileServiceServicer_to_server, store, "lares.store.internal.v1.FileService")
    server.add(add_OffsetServiceServicer_to_server, offsets, "lares.store.internal.v1.OffsetService")
    add_fake_leases(server, FakeUploadService())
    address = await server.listen(f"unix:{tmp_path / 'store.sock'}", door=Door.SIBLINGS)
    await server.start()
    yield address
    await server.stop(0)


async def read_all(stream: Stream[MediaIngested]) -> None:
    async for batch in stream.batches(100):
        for delivery in batch:
            stream.done(delivery)


async def is_done(stream: Stream[MediaIngested]) -> bool:
    return await stream.lag() == 0


def drop(home: Path, path: str, content: bytes, mtime: float) -> None:
    target, partial = home / "cameras" / path, home / f"{os.urandom(8).hex()}.part"
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(content)
    os.utime(partial, (mtime, mtime))
    partial.rename(target)


async def lock(home: Path, owner: str) -> None:
    async with lock_folder(home / "cameras", owner, patience=0):
        pass


@pytest.mark.usefixtures("calling_as_itself", "detecting")
async def test_the_service_watches_takes_uploads_and_reports_its_status(
    bus: Bus, log: TopicReader, prefix: str, store_socket: str, tmp_path: Path
) -> None:
    created, address = f"{prefix}-created", f"unix:{tmp_path / 'ingest.sock'}"
    await bus.publish(CAMERAS, CameraConfigured(camera=Camera(id=created, enabled=True), revision=1))
    server, channels = GrpcServer(CallInterceptor), Channels({}, {"ingest": address})
    await server.listen(address, door=Door.SIBLINGS)
    stub = IngestServiceStub(channels.to("ingest"))
    async with running_ingest(bus, tmp_path, store_socket, server) as mesh:
        await server.start()
        assert await mesh.missing() == {}
        with pytest.raises(Conflict) as raised:
            await lock(tmp_path, "another Lares")
        assert raised.value.reason == "INGEST_RUNNING"
        await lock(tmp_path, await bus.topic_id(INGESTED))  # as another process of this one
        await until((tmp_path / "cameras" / created).is_dir)
        drop(tmp_path, f"{prefix}/one.jpg", jpeg("one"), 1_000)
        drop(tmp_path, f"{prefix}/bad.jpg", b"bad", 1_000)
        await until(lambda: log.media and log.rejections)
        content = jpeg("uploaded")
        header = UploadHeader(
            camera_id=f"{prefix}-up", sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)
        )
        requests = iter([UploadMediaRequest(header=header), UploadMediaRequest(chunk=content)])
        response = await stub.UploadMedia(requests, timeout=90, metadata=metadata())
        await until(lambda: len(log.media) == 2)
        assert log.media[1].id == response.media_id
        status = await call(stub.GetIngestStatus, GetIngestStatusRequest())
        assert (status.settling, status.unannounced, status.scanning) == (0, 0, False)
        await server.stop(0)
    await channels.close()
    assert log.media[0].file.path == f"{prefix}/one.jpg"
    assert log.rejections[0].reason == RejectionReason.REJECTION_REASON_NOT_AN_IMAGE
    assert not mesh.failure.done()


@pytest.mark.usefixtures("calling_as_itself", "detecting")
async def test_while_the_cameras_folder_is_away_uploads_are_taken_and_the_rest_waits(
    bus: Bus, log: TopicReader, prefix: str, store_socket: str, tmp_path: Path
) -> None:
    address = f"unix:{tmp_path / 'ingest.sock'}"
    server, channels = GrpcServer(CallInterceptor), Channels({}, {"ingest": address})
    await server.listen(address, door=Door.SIBLINGS)
    stub = IngestServiceStub(channels.to("ingest"))
    cameras = tmp_path / "cameras"
    async with running_ingest(bus, tmp_path, store_socket, server) as mesh:
        await server.start()
        drop(tmp_path, f"{prefix}/before.jpg", jpeg("before"), 1_000)
        await until(lambda: log.media)
        cameras.rename(tmp_path / "elsewhere")
        await until_async(lambda: mesh.missing())
        status = await call(stub.GetIngestStatus, GetIngestStatusRequest())
        assert (status.scanning, "away" in status.problem) == (True, True)
        assert "away" in (await mesh.missing())["cameras folder"]
        content = jpeg("uploaded")
        header = UploadHeader(
            camera_id=f"{prefix}-up", sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)
        )
        requests = iter([UploadMediaRequest(header=header), UploadMediaRequest(chunk=content)])
        await stub.UploadMedia(requests, timeout=90, metadata=metadata())
        (tmp_path / "elsewhere" / prefix / "while.jpg").write_bytes(jpeg("while"))
        (tmp_path / "elsewhere").rename(cameras)
        await until(lambda: log.paths_of(prefix) == [f"{prefix}/before.jpg", f"{prefix}/while.jpg"])

        async def ready() -> bool:
            status = await call(stub.GetIngestStatus, GetIngestStatusRequest())
            return not (status.problem or status.scanning or await mesh.missing())

        await until_async(ready)
        await server.stop(0)
    await channels.close()
    assert not mesh.failure.done()
    assert len(log.media) == 3


@pytest.mark.usefixtures("detecting")
async def test_kill_9_loses_nothing_and_keeps_every_cameras_order(
    bus: Bus, log: TopicReader, prefix: str, kafka_url: str, store_socket: str, tmp_path: Path
) -> None:
    """Photos arrive in capture order before, while and after the process is killed, several times."""
    dice = random.Random(3)
    cameras = [f"{prefix}-{name}" for name in ("a", "b", "c")]
    paths: dict[str, list[str]] = {camera: [] for camera in cameras}
    for kill in range(KILLS + 1):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.ingest_process", kafka_url, str(tmp_path), store_socket),
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'proto' / 'gen'}"},
            stderr=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )
        for step in range(20):
            camera, number = dice.choice(cameras), kill * 100 + step
            path = f"{camera}/{number % 7}/{dice.randrange(10**6)}-{number}.jpg"
            drop(tmp_path, path, jpeg(path), 10_000 + number)
            paths[camera].append(path)
            await asyncio.sleep(dice.uniform(0, 0.15))
        if kill < KILLS:
            await asyncio.sleep(dice.uniform(0, 0.3))
            process.kill()
        else:
            await until(lambda: all(set(log.paths_of(c)) == set(paths[c]) for c in cameras))
            process.terminate()
        await process.wait()
    assert {camera: log.paths_of(camera) for camera in cameras} == paths
    for media in log.media:
        content = (tmp_path / "media" / media.sha256[:2] / media.sha256).read_bytes()
        assert hashlib.sha256(content).hexdigest() == media.sha256
    assert log.rejections == []


@pytest.mark.usefixtures("calling_as_itself")
async def test_a_backlog_waits_in_the_folder_for_a_detector_and_live_photos_do_not(
    bus: Bus,
    log: TopicReader,
    prefix: str,
    offsets: FakeOffsetService,
    store_socket: str,
    tmp_path: Path,
) -> None:
    """Both cameras have the same partition, and the ingest is a new one after half of the time."""
    cameras = (f"{prefix}-{number}" for number in range(1000))
    busy = next(cameras)
    other = next(
        camera for camera in cameras if bus.partition(INGESTED, camera) == bus.partition(INGESTED, busy)
    )
    backlog = [f"{busy}/{number:04}.jpg" for number in range(200)]
    for number, path in enumerate(backlog):
        drop(tmp_path, path, jpeg(path), 1_767_614_400 + number)
    async with bus.consume(INGESTED, "detect_svc", offsets=offsets) as stream:
        reading = asyncio.create_task(read_all(stream))
        await until_async(lambda: is_done(stream))  # with what other tests have left
        reading.cancel()
        for run in (1, 2):
            live = {f"{camera}/live-{run}.jpg" for camera in (busy, other)}
            async with running_ingest(bus, tmp_path, store_socket, GrpcServer(CallInterceptor)):
                for path in live:
                    drop(tmp_path, path, jpeg(path), time.time())
                await until(partial(log.has, live))
                at = bus.partition(INGESTED, busy)
                assert (await bus.ends(INGESTED))[at] - stream.positions()[at] <= MAX_UNDETECTED + 4
                if run == 2:
                    reading = asyncio.create_task(read_all(stream))
                    await until(lambda: len(log.paths_of(busy)) == 202)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert [path for path in log.paths_of(busy) if "live" not in path] == backlog
