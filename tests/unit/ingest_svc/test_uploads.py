"""Uploads over a real gRPC server."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from ingest_svc.api import IngestServicer
from lares.ingest.v1.ingest_service_pb2 import (
    GetIngestStatusRequest,
    UploadHeader,
    UploadMediaRequest,
    UploadMediaResponse,
)
from lares.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub, add_IngestServiceServicer_to_server
from lares.ingest.v1.media_pb2 import CapturedAtSource
from mesh.identity import media_id
from mesh.problems import Conflict, Exhausted, Invalid, Problem, Unavailable
from mesh.rpc import GrpcServer, problem_of
from mesh.rpc.interceptor import CallInterceptor
from tests.support.blobs import content_of
from tests.support.image_files import jpeg, tiff
from tests.support.ingest_harness import IngestHarness
from tests.support.waiting import until


@asynccontextmanager
async def serving(harness: IngestHarness) -> AsyncIterator["IngestServiceStub"]:
    async with harness.running() as ingest:
        server = GrpcServer(CallInterceptor)
        servicer = IngestServicer(ingest.uploads, ingest.worker.caught_up)
        server.add(add_IngestServiceServicer_to_server, servicer, "lares.ingest.v1.IngestService")
        address = await server.listen("127.0.0.1:0")
        await server.start()
        with grpc.insecure_channel(address) as channel:
            yield IngestServiceStub(channel)
        await server.stop(0)


def parts(content: bytes, camera: str = "porch", **header: object) -> Iterator[UploadMediaRequest]:
    fields: dict[str, object] = {
        "camera_id": camera,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
    }
    yield UploadMediaRequest(header=UploadHeader(**(fields | header)))  # type: ignore[arg-type]
    for start in range(0, len(content), 1000):
        yield UploadMediaRequest(chunk=content[start : start + 1000])


async def upload(stub: "IngestServiceStub", requests: Iterator[UploadMediaRequest]) -> UploadMediaResponse:
    # Not by grpc.aio, where a response that arrives while the client still writes may become INTERNAL.
    call = stub.UploadMedia.future(requests, timeout=90)
    await until(call.done)
    if call.code() is grpc.StatusCode.OK:
        return call.result()
    metadata = grpc.aio.Metadata.from_tuple(call.trailing_metadata())
    raise problem_of(grpc.aio.AioRpcError(call.code(), metadata, metadata, call.details()))


async def test_an_upload_is_durably_announced_when_it_returns(harness: IngestHarness) -> None:
    content = jpeg("one", pixels=b"\x12" * 5000)
    captured_at = Timestamp(seconds=1_767_614_400, nanos=5_000_000)
    async with serving(harness) as stub:
        response = await upload(stub, parts(content, captured_at=captured_at))
        (media,) = harness.bus.media
        assert response.media_id == media.id == media_id("porch", hashlib.sha256(content).hexdigest())
        assert await content_of(harness.blobs, media.sha256) == content
        assert media.captured_at == captured_at
        assert media.captured_at_source == CapturedAtSource.CAPTURED_AT_SOURCE_DECLARED
        assert (media.camera_id, media.camera_name, media.HasField("file")) == ("porch", "porch", False)
        again = await upload(stub, parts(content))
        assert again.media_id == response.media_id
        status = await asyncio.to_thread(stub.GetIngestStatus, GetIngestStatusRequest(), timeout=90)
        assert (status.settling, status.unannounced, status.scanning) == (0, 0, False)
    assert list((harness.home / "media" / ".spool").iterdir()) == []


async def test_without_a_declared_time_exif_counts_and_then_the_time_of_arrival(
    harness: IngestHarness,
) -> None:
    async with serving(harness) as stub:
        await upload(stub, parts(jpeg("exif", exif=tiff("2026:01:05 12:00:00", "+01:00"))))
        await upload(stub, parts(jpeg("none")))
    exif, none = harness.bus.media
    assert exif.captured_at.ToJsonString() == "2026-01-05T11:00:00Z"
    assert none.captured_at_source == CapturedAtSource.CAPTURED_AT_SOURCE_MTIME
    assert abs(none.captured_at.ToSeconds() - none.ingested_at.ToSeconds()) <= 1


@pytest.mark.parametrize(
    ("requests", "kind", "reason"),
    [
        (lambda: parts(jpeg(), sha256="0" * 64), Invalid, "SHA256_MISMATCH"),
        (lambda: parts(jpeg(), size_bytes=10), Invalid, "SIZE_MISMATCH"),
        (lambda: parts(jpeg(), size_bytes=9_000), Invalid, "SIZE_MISMATCH"),
        (lambda: parts(jpeg(), size_bytes=20_000), Invalid, "TOO_MANY_BYTES"),
        (lambda: parts(jpeg()[:-2]), Invalid, "TRUNCATED"),
        (lambda: parts(b"\x00\x00\x00\x18ftypisom" + bytes(16)), Invalid, "VIDEO_NOT_YET"),
        (lambda: parts(b"hello"), Invalid, "NOT_AN_IMAGE"),
        (lambda: parts(jpeg(width=65_000, height=65_000)), Invalid, "TOO_MANY_PIXELS"),
        (lambda: parts(jpeg(), "gone"), Conflict, "CAMERA_DELETED"),
        (lambda: parts(jpeg(), "off"), Conflict, "CAMERA_DISABLED"),
        (lambda: parts(jpeg(), "Not A Slug"), Invalid, "BAD_REQUEST"),
        (lambda: parts(jpeg(), captured_at=Timestamp(seconds=10**15)), Invalid, "BAD_REQUEST"),
        (lambda: iter([UploadMediaRequest(chunk=b"x")]), Invalid, "HEADER_MISSING"),
        (lambda: iter([]), Invalid, "HEADER_MISSING"),
        (lambda: iter([next(parts(jpeg()))] * 2), Invalid, "SECOND_HEADER"),
    ],
)
async def test_rejections(harness: IngestHarness, requests: object, kind: type[Problem], reason: str) -> None:
    harness.settings["ingest_max_bytes"] = 10_000
    harness.cameras.configure("gone", deleted=True)
    harness.cameras.configure("off", enabled=False)
    async with serving(harness) as stub:
        with pytest.raises(kind) as raised:
            await upload(stub, requests())  # type: ignore[operator]
    assert type(raised.value) is kind
    assert raised.value.reason == reason
    assert not harness.bus.media
    assert list((harness.home / "media" / ".spool").iterdir()) == []


async def test_concurrent_uploads_are_bounded(harness: IngestHarness) -> None:
    harness.bus.open.clear()
    async with serving(harness) as stub:
        in_progress = [asyncio.create_task(upload(stub, parts(jpeg(str(index))))) for index in range(8)]
        await until(lambda: harness.ingest.announcer.pending == 8)
        with pytest.raises(Exhausted) as raised:
            await upload(stub, parts(jpeg("ninth")))
        assert raised.value.reason == "TOO_MANY_UPLOADS"
        harness.bus.open.set()
        assert len({response.media_id for response in await asyncio.gather(*in_progress)}) == 8
        await upload(stub, parts(jpeg("ninth")))


async def test_a_stalled_upload_gives_up(harness: IngestHarness) -> None:
    gave_up = threading.Event()

    def stalling() -> Iterator[UploadMediaRequest]:
        yield next(parts(jpeg()))
        gave_up.wait()

    async with serving(harness) as stub:
        harness.ingest.uploads._chunk_seconds = 0.1
        with pytest.raises(Unavailable) as raised:
            await upload(stub, stalling())
        gave_up.set()
    assert raised.value.reason == "UPLOAD_STALLED"
    assert harness.ingest.uploads.in_progress == 0


async def test_what_a_killed_process_left_in_the_spool_is_deleted(harness: IngestHarness) -> None:
    spool = harness.home / "media" / ".spool"
    spool.mkdir()
    (spool / "left").write_bytes(b"half")
    async with harness.running():
        assert list(spool.iterdir()) == []


async def test_a_full_disk_makes_uploads_unavailable(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with serving(harness) as stub:
        monkeypatch.setattr(harness.blobs, "_store", full)
        with pytest.raises(Unavailable) as raised:
            await upload(stub, parts(jpeg()))
    assert raised.value.reason == "STORAGE_FAILED"
