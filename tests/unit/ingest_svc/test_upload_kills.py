"""Processes that are killed while an upload arrives."""

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
from tests.support.image_files import jpeg
from tests.support.waiting import until
from tests.unit.ingest_svc.test_uploads import parts

ROOT = Path(__file__).parents[3]
CONTENT = jpeg("one", pixels=os.urandom(300_000).replace(b"\xff", b"\x00"))
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@asynccontextmanager
async def program(home: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, IngestServiceStub]]:
    """Killed at the end of the block, at the latest."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.upload_server", str(home)),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT}/proto/gen"},
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
async def test_what_was_written_before_a_kill_is_kept_and_no_more(tmp_path: Path, sent: int) -> None:
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

    async with program(tmp_path) as (process, stub):
        call = stub.UploadMedia.future(sending(0, sent, True), timeout=90)
        await until(lambda: handed_over >= sent // 2)  # in the midst of it
        process.kill()
        await process.wait()
        ended.set()
        await until(call.done)
    offset = 0
    for _ in range(2):  # a kill while nothing arrives changes nothing
        async with program(tmp_path) as (_, stub):
            offset = await received(stub)
            assert offset <= sent
    async with program(tmp_path) as (_, stub):
        assert await received(stub) == offset
        call = stub.UploadMedia.future(sending(offset, len(CONTENT), False), timeout=90)
        await until(call.done)
        assert call.result().media_id == media_id("porch", SHA256)
    assert (tmp_path / "media" / SHA256[:2] / SHA256).read_bytes() == CONTENT
    assert list((tmp_path / "media" / ".partial").iterdir()) == []
