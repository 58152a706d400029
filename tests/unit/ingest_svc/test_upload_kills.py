"""Processes that are killed while an upload arrives, which goes on at another one."""

import asyncio
import hashlib
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from lares.ingest.v1.ingest_service_pb2 import GetUploadRequest, UploadMediaRequest
from lares.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from mesh.identity import media_id
from mesh.rpc import GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door
from tests.contract.conftest import location as location  # a fixture
from tests.support.blob_location import BlobLocation
from tests.support.blobs import content_of
from tests.support.fake_leases import FakeUploadService, add_fake_leases
from tests.support.image_files import jpeg
from tests.support.waiting import until
from tests.unit.ingest_svc.test_uploads import parts

ROOT = Path(__file__).parents[3]
PART = 30_000
CONTENT = jpeg("one", pixels=os.urandom(300_000).replace(b"\xff", b"\x00"))
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
async def uploads() -> FakeUploadService:
    return FakeUploadService()


@pytest.fixture
async def store(uploads: FakeUploadService, tmp_path: Path) -> AsyncIterator[str]:
    server = GrpcServer(CallInterceptor)
    add_fake_leases(server, uploads)
    address = await server.listen(f"unix:{tmp_path}/store.sock", door=Door.SIBLINGS)
    await server.start()
    yield address
    await server.stop(0)


@asynccontextmanager
async def program(
    home: Path, store: str, location: BlobLocation
) -> AsyncIterator[tuple[asyncio.subprocess.Process, IngestServiceStub]]:
    """Killed at the end of the block, at the latest."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.upload_server", str(home), store, str(PART)),
        cwd=ROOT,
        env=os.environ | location.settings | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT}/proto/gen"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout
        address = (await asyncio.wait_for(process.stdout.readline(), 90)).decode().strip()
        with grpc.insecure_channel(address) as channel:
            yield process, IngestServiceStub(channel)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("sent", [0, 1000, 65_000, 200_000, len(CONTENT)])
async def test_what_was_acknowledged_before_a_kill_is_kept_and_goes_on_elsewhere(
    tmp_path: Path, store: str, uploads: FakeUploadService, location: BlobLocation, sent: int
) -> None:
    ended = threading.Event()
    handed_over = 0

    def sending(offset: int, until_byte: int, wait: bool) -> Iterator[UploadMediaRequest]:
        nonlocal handed_over
        yield next(parts(CONTENT, offset=offset))
        for start in range(offset, until_byte, 1000):
            yield UploadMediaRequest(chunk=CONTENT[start : min(start + 1000, until_byte)])
            handed_over = start + 1000
        if wait:
            ended.wait()

    async def received(stub: IngestServiceStub) -> int:
        request = GetUploadRequest(camera_id="porch", sha256=SHA256)
        return (await asyncio.to_thread(stub.GetUpload, request, timeout=90)).received_bytes

    async with program(tmp_path / "a", store, location) as (process, stub):
        call = stub.UploadMedia.future(sending(0, sent, True), timeout=90)
        await until(lambda: handed_over >= sent // 2)  # in the midst of it
        acknowledged = await received(stub)
        process.kill()
        await process.wait()
        ended.set()
        await until(call.done)
    async with program(tmp_path / "b", store, location) as (process, stub):
        offset = await received(stub)
        assert acknowledged <= offset <= sent
        process.kill()  # while nothing arrives, which changes nothing
    async with program(tmp_path / "c", store, location) as (_, stub):
        assert await received(stub) == offset
        call = stub.UploadMedia.future(sending(offset, len(CONTENT), False), timeout=90)
        await until(call.done)
        assert call.result().media_id == media_id("porch", SHA256)
    async with location.open() as blobs:
        assert await content_of(blobs, SHA256) == CONTENT
        assert [folder async for folder in blobs.parts.folders()] == []
    assert uploads.uploads == []
