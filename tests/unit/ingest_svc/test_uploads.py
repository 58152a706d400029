"""Uploads over a real gRPC server."""

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from ingest_svc.api import IngestServicer
from ingest_svc.receiving import upload_slots
from ingest_svc.receiving.upload_slots import MAX_OF_CALLER, UploadSlots
from lares.ingest.v1.ingest_service_pb2 import (
    GetIngestStatusRequest,
    UploadHeader,
    UploadMediaRequest,
    UploadMediaResponse,
)
from lares.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub, add_IngestServiceServicer_to_server
from lares.ingest.v1.media_pb2 import CapturedAtSource
from mesh.identity import media_id
from mesh.permissions import UPLOAD
from mesh.problems import Conflict, Denied, Exhausted, Invalid, Problem, Unavailable
from mesh.rpc import API_KEY, GrpcServer, problem_of
from mesh.rpc.interceptor import CallInterceptor, Verify
from mesh.security import Caller
from tests.support.blobs import content_of
from tests.support.image_files import jpeg, tiff
from tests.support.ingest_harness import IngestHarness
from tests.support.waiting import until


@asynccontextmanager
async def serving(harness: IngestHarness, verify: Verify | None = None) -> AsyncIterator["IngestServiceStub"]:
    async with harness.running() as ingest:
        server = GrpcServer(lambda door: CallInterceptor(door, verify))
        servicer = IngestServicer(ingest.uploads, ingest.duty)
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
    call = stub.UploadMedia.future(requests, timeout=90, metadata=((API_KEY, "a key"),))
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
        harness.known_files.media_ids.add(media.id)
        again = await upload(stub, parts(content))
        assert again.media_id == response.media_id
        assert [media.known_content for media in harness.bus.media] == [False, True]
        status = await asyncio.to_thread(stub.GetIngestStatus, GetIngestStatusRequest(), timeout=90)
        assert (status.settling, status.unannounced, status.scanning) == (0, 0, False)
    assert list((harness.home / "media" / ".spool").iterdir()) == []


async def test_the_key_of_a_camera_uploads_for_that_camera_alone(harness: IngestHarness) -> None:
    async def verify(secret: str) -> Caller:
        return Caller.of_key(secret, secret, frozenset({UPLOAD}), "porch")

    async with serving(harness, verify) as stub:
        with pytest.raises(Denied) as refused:
            await upload(stub, parts(jpeg("one"), camera="door"))
        assert refused.value.reason == "OTHER_CAMERA"
        await upload(stub, parts(jpeg("one"), camera="porch"))
    assert [media.camera_id for media in harness.bus.media] == ["porch"]


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


@pytest.mark.parametrize("exif", [b"", tiff("2000:01:01 00:00:20")], ids=["no-time", "unset-clock"])
async def test_the_time_of_arrival_is_that_of_the_first_attempt_after_a_kill_too(
    harness: IngestHarness, exif: bytes
) -> None:
    content = jpeg("one", exif=exif)
    harness.bus.open.clear()
    async with serving(harness) as stub:
        sending = asyncio.create_task(upload(stub, parts(content)))
        await until(lambda: harness.bus.attempts)
        sending.cancel()
        before = time.time_ns()
    assert harness.bus.media == []
    harness.bus.open.set()
    async with serving(harness) as stub:
        await upload(stub, parts(content))
        await upload(stub, parts(jpeg("two", exif=exif)))
    first, second = harness.bus.media
    assert first.captured_at.ToNanoseconds() < before < second.captured_at.ToNanoseconds()
    assert first.HasField("claimed_captured_at") == bool(exif)
    assert harness.uploads.uploads == []


@pytest.mark.parametrize(
    ("requests", "kind", "reason"),
    [
        (lambda: parts(jpeg(), sha256="0" * 64), Invalid, "SHA256_MISMATCH"),
        (lambda: parts(jpeg(), size_bytes=10), Invalid, "SIZE_MISMATCH"),
        (lambda: parts(jpeg(), size_bytes=9_000), Invalid, "SIZE_MISMATCH"),
        (lambda: parts(jpeg(), size_bytes=20_000), Invalid, "TOO_MANY_BYTES"),
        (lambda: parts(jpeg()[:-2]), Invalid, "TRUNCATED"),
        (lambda: parts(b"\x00\x00\x00\x18ftypisom" + bytes(16)), Invalid, "TRUNCATED"),
        (lambda: parts(b"FLV\x01" + bytes(16)), Invalid, "UNSUPPORTED_VIDEO"),
        (lambda: parts(b"FLV\x01" + bytes(5000), size_bytes=9_000), Invalid, "UNSUPPORTED_VIDEO"),
        (lambda: parts(jpeg(pixels=b"\x12" * 5000), size_bytes=20_000), Invalid, "TOO_MANY_BYTES"),
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


async def test_many_uploads_at_once_are_taken_in_turn(harness: IngestHarness) -> None:
    count = MAX_OF_CALLER + 5
    harness.bus.open.clear()
    async with serving(harness) as stub:
        in_progress = [asyncio.create_task(upload(stub, parts(jpeg(str(index))))) for index in range(count)]
        await until(lambda: harness.ingest.uploads.in_progress == count)
        await until(lambda: harness.ingest.announcer.pending == MAX_OF_CALLER)
        await upload_while_closed(harness, stub)
        harness.bus.open.set()
        assert len({response.media_id for response in await asyncio.gather(*in_progress)}) == count
    assert harness.ingest.uploads.in_progress == 0


async def upload_while_closed(harness: IngestHarness, stub: "IngestServiceStub") -> None:
    """Another camera's upload has a slot at once."""
    pending = harness.ingest.announcer.pending
    call = stub.UploadMedia.future(parts(jpeg("other"), "other"), timeout=90)
    await until(lambda: harness.ingest.announcer.pending == pending + 1)
    harness.bus.open.set()
    await until(call.done)
    assert call.code() is grpc.StatusCode.OK


async def test_a_slow_upload_ends_at_its_deadline(harness: IngestHarness) -> None:
    """Each chunk comes in time, and the whole would take for ever."""
    gave_up = threading.Event()

    def trickling() -> Iterator[UploadMediaRequest]:
        yield next(parts(jpeg()))
        for byte in jpeg():
            yield UploadMediaRequest(chunk=bytes([byte]))
            if gave_up.wait(0.05):
                break

    async with serving(harness) as stub:
        harness.ingest.uploads._grace_seconds = 0.3
        with pytest.raises(Unavailable) as raised:
            await upload(stub, trickling())
        gave_up.set()
    assert (raised.value.reason, raised.value.message) == ("UPLOAD_STALLED", "the upload is too slow")
    assert harness.ingest.uploads.in_progress == 0


async def test_slots_are_fair_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_slots, "MAX_UPLOADS", 3)
    monkeypatch.setattr(upload_slots, "MAX_OF_CALLER", 2)
    monkeypatch.setattr(upload_slots, "MAX_WAITING", 3)
    slots, order, done = UploadSlots(), list[str](), asyncio.Event()

    async def hold(caller: str, name: str) -> None:
        async with slots.held(caller):
            order.append(name)
            await done.wait()

    tasks = {}
    for caller, name in (("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("b", "b2"), ("c", "c1")):
        tasks[name] = asyncio.create_task(hold(caller, name))
        await asyncio.sleep(0)
    assert order == ["a1", "a2", "b1"]
    with pytest.raises(Exhausted):
        await hold("d", "d1")
    tasks["b2"].cancel()  # does not wait any longer
    tasks["a1"].cancel()
    await until(lambda: len(order) == 4)
    assert order[3] == "c1"  # of the caller that has none, though another has waited longer
    done.set()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert order[4:] == ["a3"]
    assert len(slots) == 0


async def test_a_slot_that_comes_too_late_goes_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_slots, "MAX_UPLOADS", 1)
    slots, done, got = UploadSlots(), asyncio.Event(), list[str]()

    async def hold(name: str) -> None:
        async with slots.held(name):
            got.append(name)
            await done.wait()

    first, late, last = [asyncio.create_task(hold(name)) for name in ("first", "late", "last")]
    await until(lambda: len(slots) == 3)
    first.cancel()
    slots._release("first")  # as the end of `first` does, and before `late` can go on
    late.cancel()
    slots._in_progress["first"] += 1
    await until(lambda: "last" in got)
    done.set()
    await asyncio.gather(first, late, last, return_exceptions=True)
    assert got == ["first", "last"]
    assert len(slots) == 0


async def test_whoever_waits_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_slots, "MAX_UPLOADS", 1)
    monkeypatch.setattr(upload_slots, "WAITING_SECONDS", 0.05)
    slots = UploadSlots()
    async with slots.held("a"):
        with pytest.raises(Exhausted) as raised:
            async with slots.held("b"):
                pass
    assert raised.value.reason == "TOO_MANY_UPLOADS"
    assert len(slots) == 0


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
