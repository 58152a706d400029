"""IngestService as a third party's synchronous gRPC client sees it, by pytest-grpc."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from ingest_svc.api import IngestServicer
from lares.ingest.v1.ingest_service_pb2 import GetIngestStatusRequest, UploadHeader, UploadMediaRequest
from lares.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub, add_IngestServiceServicer_to_server
from mesh.identity import media_id
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.loop_thread import LoopThread


@asynccontextmanager
async def open_harness(home: Path) -> AsyncIterator[IngestHarness]:
    harness = IngestHarness(home)
    async with harness.running():
        yield harness
    harness.blobs.close()


@pytest.fixture(scope="module")
def harness(loop_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> IngestHarness:
    return loop_thread.enter(open_harness(tmp_path_factory.mktemp("ingest") / "home"))


@pytest.fixture(scope="module")
def grpc_servicer(harness: IngestHarness) -> IngestServicer:
    return IngestServicer(harness.ingest.uploads, harness.ingest.duty)


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Any:
    return add_IngestServiceServicer_to_server


@pytest.fixture(scope="module")
def grpc_stub_cls() -> Any:
    return IngestServiceStub


def parts(content: bytes, *chunks: bytes) -> Iterator[UploadMediaRequest]:
    sha256 = hashlib.sha256(content).hexdigest()
    yield UploadMediaRequest(header=UploadHeader(camera_id="porch", sha256=sha256, size_bytes=len(content)))
    for chunk in chunks or (content,):
        yield UploadMediaRequest(chunk=chunk)


def test_an_upload_and_a_file_with_the_same_content_are_one_media(
    grpc_stub: Any, harness: IngestHarness
) -> None:
    content = jpeg("both")
    id = media_id("porch", hashlib.sha256(content).hexdigest())
    assert grpc_stub.UploadMedia(parts(content), timeout=90).media_id == id
    harness.drop("Porch/both.jpg", content)
    status = grpc_stub.GetIngestStatus(GetIngestStatusRequest(), timeout=90)
    while status.settling or status.unannounced or status.scanning:
        status = grpc_stub.GetIngestStatus(GetIngestStatusRequest(), timeout=90)
    assert [media.id for media in harness.bus.media] == [id, id]
    assert [media.camera_name for media in harness.bus.media] == ["porch", "Porch"]


def test_a_rejected_upload_gets_the_reason(grpc_stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        grpc_stub.UploadMedia(parts(jpeg()[:-2]), timeout=90)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == "the JPEG file's end is missing"


def test_an_empty_chunk_violates_the_contract(grpc_stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        grpc_stub.UploadMedia(parts(jpeg(), b""), timeout=90)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_aborted_upload_leaves_nothing(
    grpc_stub: Any, harness: IngestHarness, loop_thread: LoopThread
) -> None:
    def aborted() -> Iterator[UploadMediaRequest]:
        yield from parts(jpeg(), jpeg()[:10])
        raise RuntimeError("the client dies")

    with pytest.raises(grpc.RpcError):
        grpc_stub.UploadMedia(aborted(), timeout=90)

    spool = harness.home / "media" / ".spool"

    async def gone() -> None:
        """A file that a thread is writing is deleted when the thread has finished."""
        async with asyncio.timeout(90):
            while harness.ingest.uploads.in_progress or list(spool.iterdir()):
                await asyncio.sleep(0.01)

    loop_thread.run(gone())
    assert list(spool.iterdir()) == []
