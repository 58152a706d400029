"""Two processes of ingest_svc with one cameras folder, one store and one Kafka: one watches, the other takes
over when it is killed, stopped or ended. Each file is announced, and removed with `take`, whatever it is."""

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from lares.ingest.v1 import ingest_service_pb2 as pb
from lares.ingest.v1.events_pb2 import MediaIngested
from lares.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from lares.store.internal.v1.file_service_pb2_grpc import add_FileServiceServicer_to_server
from lares.store.internal.v1.lease_service_pb2_grpc import add_LeaseServiceServicer_to_server
from lares.store.internal.v1.offset_service_pb2_grpc import add_OffsetServiceServicer_to_server
from lares.store.internal.v1.upload_service_pb2_grpc import add_UploadServiceServicer_to_server
from mesh.bus import Bus, Tail
from mesh.identity import media_id
from mesh.problems import Conflict, Problem
from mesh.rpc import Channels, GrpcServer, call, metadata, problem_of
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door, as_itself
from mesh.topics import INGESTED
from store_svc.api.leases import LeaseServicer
from store_svc.api.uploads import UploadServicer
from store_svc.database import open_database
from store_svc.leases import LeaseTable
from store_svc.uploads import UploadTable
from tests.mesh.test_ingest import read_all
from tests.support.image_files import jpeg
from tests.support.ingest_process import FakeFileService, FakeOffsetService
from tests.support.parts import MIGRATED, fresh_database
from tests.support.records import unique
from tests.support.waiting import until, until_async

ROOT = Path(__file__).parents[2]
LEASE_SECONDS = 2.0
WATCHING, STANDING_BY = pb.FOLDER_DUTY_WATCHING, pb.FOLDER_DUTY_STANDING_BY


class Replica:
    """A process of ingest_svc with a home of its own."""

    def __init__(self, process: asyncio.subprocess.Process, channel: grpc.aio.Channel) -> None:
        self.process, self.stub = process, IngestServiceStub(channel)

    async def status(self) -> pb.GetIngestStatusResponse:
        return await call(self.stub.GetIngestStatus, pb.GetIngestStatusRequest(), timeout=5, wait=True)

    async def has(self, duty: pb.FolderDuty.ValueType) -> bool:
        try:
            status = await self.status()
        except Problem:
            return False
        return status.folder_duty == duty and not status.scanning

    async def until(self, duty: pb.FolderDuty.ValueType) -> None:
        await until_async(lambda: self.has(duty))


class Cluster:
    """One cameras folder, store and Kafka."""

    def __init__(self, folder: Path, bus_url: str, store: str, files: FakeFileService, prefix: str) -> None:
        self.folder, self.cameras, self.files, self.prefix = folder, folder / "cameras", files, prefix
        self._bus_url, self._store = bus_url, store
        self._stack = AsyncExitStack()
        self.announced: list[MediaIngested] = []
        self.cameras.mkdir()

    async def follow(self, tail: Tail[MediaIngested]) -> None:
        async for delivery in tail:
            media = delivery.message.media
            if media.camera_id.startswith(self.prefix):
                self.announced.append(delivery.message)
                self.files.record(media.file)

    @property
    def media(self) -> set[str]:
        return {message.media.id for message in self.announced}

    def drop(self, name: str) -> str:
        """Puts a photo into the folder, and returns the id of its media."""
        content = jpeg(name)
        target = self.cameras / self.prefix / f"{name}.jpg"
        target.parent.mkdir(exist_ok=True)
        part = self.folder / f"{name}.part"
        part.write_bytes(content)
        part.rename(target)
        return id_of(self.prefix, content)

    async def start(self, name: str, **settings: str) -> Replica:
        home = self.folder / name
        (home / "run").mkdir(parents=True, exist_ok=True)
        if not (home / "cameras").exists():
            (home / "cameras").symlink_to(self.cameras)
        address = f"unix:{self.folder}/{name}.sock"
        environment = {
            "LARES_HOME": str(home),
            "LARES_BLOBS_URL": f"file://{self.folder}/media",
            "LARES_WATCH_LEASE_SECONDS": str(LEASE_SECONDS),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT}/proto/gen",
        }
        log = self._stack.enter_context((self.folder / f"{name}.log").open("ab"))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.ingest_process"),
            *(self._bus_url, str(home), self._store, address),
            cwd=ROOT,
            env=os.environ | environment | settings,
            stdout=log,
            stderr=log,
        )
        self._stack.push_async_callback(end, process)
        channels = Channels({}, {"ingest": address})
        self._stack.push_async_callback(channels.close)
        return Replica(process, channels.to("ingest"))

    async def close(self) -> None:
        await self._stack.aclose()


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


def id_of(camera: str, content: bytes) -> str:
    return media_id(camera, hashlib.sha256(content).hexdigest())


@pytest.fixture
async def cluster(bus: Bus, kafka_url: str, postgres_server: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    """The leases and uploads are those of a real database."""
    files, offsets, server = FakeFileService(), FakeOffsetService(), GrpcServer(CallInterceptor)
    package = "lares.store.internal.v1"
    async with (
        fresh_database(postgres_server, MIGRATED) as url,
        open_database(url) as database,
        bus.tail(INGESTED) as tail,
        bus.consume(INGESTED, "detect_svc", offsets=offsets) as stream,
    ):
        leases, uploads = LeaseServicer(LeaseTable(database)), UploadServicer(UploadTable(database))
        server.add(add_FileServiceServicer_to_server, files, f"{package}.FileService")
        server.add(add_OffsetServiceServicer_to_server, offsets, f"{package}.OffsetService")
        server.add(add_LeaseServiceServicer_to_server, leases, f"{package}.LeaseService")
        server.add(add_UploadServiceServicer_to_server, uploads, f"{package}.UploadService")
        store = await server.listen(f"unix:{tmp_path}/store.sock", door=Door.SIBLINGS)
        await server.start()
        found = Cluster(tmp_path, kafka_url, store, files, unique("replicas"))
        with as_itself():
            reading = [asyncio.create_task(found.follow(tail)), asyncio.create_task(read_all(stream))]
            try:
                yield found
            finally:
                await found.close()
                for task in reading:
                    task.cancel()
                await asyncio.gather(*reading, return_exceptions=True)
                await server.stop(0)


async def watching_and_standing_by(cluster: Cluster, **settings: str) -> tuple[Replica, Replica]:
    first = await cluster.start("a", **settings)
    await first.until(WATCHING)
    second = await cluster.start("b", **settings)
    await second.until(STANDING_BY)
    return first, second


async def kill(replica: Replica) -> None:
    replica.process.kill()
    await replica.process.wait()


async def stop(replica: Replica) -> None:
    replica.process.send_signal(signal.SIGSTOP)


async def terminate(replica: Replica) -> None:
    replica.process.send_signal(signal.SIGTERM)
    await replica.process.wait()


@pytest.mark.parametrize("originals", ["keep", "take"])
@pytest.mark.parametrize("fault", [kill, stop, terminate])
async def test_another_replica_watches_when_the_first_one_is_gone(
    cluster: Cluster, fault: Callable[[Replica], Awaitable[None]], originals: str
) -> None:
    first, second = await watching_and_standing_by(cluster, LARES_INGEST_ORIGINALS=originals)
    status = await second.status()
    assert (status.settling, status.unannounced, status.scanning, status.problem) == (0, 0, False, "")
    assert status.watcher
    ids = {cluster.drop(f"before-{n}") for n in range(5)}
    await until(lambda: cluster.media == ids)
    ids |= {cluster.drop(f"while-{n}") for n in range(20)}
    await fault(first)
    ids |= {cluster.drop(f"after-{n}") for n in range(5)}
    await second.until(WATCHING)
    await until(lambda: cluster.media == ids)
    if fault is stop:
        first.process.send_signal(signal.SIGCONT)
        await first.until(STANDING_BY)
    ids |= {cluster.drop(f"later-{n}") for n in range(5)}
    await until(lambda: cluster.media == ids)
    assert first.process.returncode is not None or (await first.status()).folder_duty == STANDING_BY
    left = cluster.cameras / cluster.prefix
    if originals == "take":
        await until(lambda: [path.name for path in left.iterdir()] == [])
    else:
        assert len(list(left.iterdir())) == len(ids)


async def test_a_replica_that_comes_back_stands_by(cluster: Cluster) -> None:
    first, second = await watching_and_standing_by(cluster)
    await kill(first)
    await second.until(WATCHING)
    again = await cluster.start("a")
    await again.until(STANDING_BY)
    assert (await second.status()).folder_duty == WATCHING


async def test_a_watcher_that_was_killed_and_starts_again_watches_at_once(cluster: Cluster) -> None:
    """Its lease is that of its home, so it need not expire."""
    settings = {"LARES_WATCH_LEASE_SECONDS": "3600"}
    first = await cluster.start("a", **settings)
    await first.until(WATCHING)
    await kill(first)
    again = await cluster.start("a", **settings)
    await again.until(WATCHING)
    id = cluster.drop("later")
    await until(lambda: id in cluster.media)


async def test_a_watcher_that_is_ended_hands_over_at_once(cluster: Cluster) -> None:
    """Nobody waits until its lease expires."""
    first, second = await watching_and_standing_by(cluster, LARES_WATCH_LEASE_SECONDS="3600")
    await terminate(first)
    await second.until(WATCHING)
    id = cluster.drop("later")
    await until(lambda: id in cluster.media)
    assert "lost=False" in (cluster.folder / "a.log").read_text()


async def test_a_replica_that_only_receives_takes_uploads_and_never_watches(cluster: Cluster) -> None:
    receiver = await cluster.start("a", LARES_INGEST_WATCH="false")
    await receiver.until(pb.FOLDER_DUTY_NONE)
    cluster.drop("a file")
    content = jpeg("uploaded")
    await upload(receiver, cluster.prefix, content)
    id = id_of(cluster.prefix, content)
    await until(lambda: id in cluster.media)
    assert cluster.media == {id}
    watcher = await cluster.start("b")
    await watcher.until(WATCHING)
    await until(lambda: len(cluster.media) == 2)


async def test_an_upload_that_one_replica_began_is_finished_by_another(cluster: Cluster) -> None:
    first, second = await watching_and_standing_by(cluster)
    content = jpeg("large", pixels=os.urandom(6 * 2**20).replace(b"\xff", b"\x00"))
    sent = 5 * 2**20
    going = asyncio.create_task(upload(first, cluster.prefix, content[:sent], whole=content))
    key = {"camera_id": cluster.prefix, "sha256": header(cluster.prefix, content).sha256}
    received = 0

    async def has_arrived() -> bool:
        nonlocal received
        answer = await call(second.stub.GetUpload, pb.GetUploadRequest(**key), timeout=5)
        received = answer.received_bytes
        return received >= 4 * 2**20

    await until_async(has_arrived)
    await kill(first)
    with pytest.raises(Problem):
        await going

    async def finished() -> bool:  # once the lease of the killed one has expired
        try:
            await upload(second, cluster.prefix, content[received:], whole=content, offset=received)
        except Conflict:  # the store has learned of another part before the kill
            return False
        return True

    await until_async(finished)
    await until(lambda: id_of(cluster.prefix, content) in cluster.media)


def header(camera: str, content: bytes, offset: int = 0) -> pb.UploadHeader:
    digest = hashlib.sha256(content).hexdigest()
    return pb.UploadHeader(camera_id=camera, sha256=digest, size_bytes=len(content), offset=offset)


async def upload(replica: Replica, camera: str, sent: bytes, *, whole: bytes = b"", offset: int = 0) -> None:
    """Sends so much of the whole and then waits, unless it is all that is left."""
    whole = whole or sent

    async def requests() -> AsyncIterator[Any]:
        yield pb.UploadMediaRequest(header=header(camera, whole, offset))
        for start in range(0, len(sent), 2**19):
            yield pb.UploadMediaRequest(chunk=sent[start : start + 2**19])
        if offset + len(sent) < len(whole):
            await asyncio.Event().wait()

    try:
        await replica.stub.UploadMedia(requests(), timeout=90, metadata=metadata())
    except grpc.aio.AioRpcError as error:
        raise problem_of(error) from None
