"""Uploads whose connections are lost, over a real gRPC server."""

import asyncio
import hashlib
import os
import queue
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

import grpc
import pytest

from ingest_svc.receiving import upload_progress
from lares.ingest.v1.ingest_service_pb2 import GetUploadRequest, GetUploadResponse, UploadMediaRequest
from lares.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from mesh.blobs import FileBlobs
from mesh.blobs.spool import Spool
from mesh.identity import media_id
from mesh.problems import Conflict, Exhausted, Invalid, Problem, Unauthenticated, Unavailable
from mesh.rpc import API_KEY, Metadata
from mesh.security import Caller
from tests.support.blobs import content_of
from tests.support.fake_leases import GIVES_WAY_SECONDS, KEPT_SECONDS
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.waiting import until, until_async
from tests.unit.ingest_svc.test_uploads import parts, serving, upload

CONTENT = jpeg("one", pixels=b"\x12" * 9000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def rest(content: bytes, offset: int, **header: object) -> Iterator[UploadMediaRequest]:
    requests = parts(content, **header, offset=offset)  # type: ignore[arg-type]
    yield next(requests)
    for start in range(offset, len(content), 1000):
        yield UploadMediaRequest(chunk=content[start : start + 1000])


class LostUpload:
    """Sends the first bytes and then nothing, until its connection is lost."""

    def __init__(
        self,
        stub: IngestServiceStub,
        content: bytes = CONTENT,
        size: int = 4000,
        offset: int = 0,
        metadata: Metadata = (),
    ) -> None:
        self._end = threading.Event()
        self._requests, self._size, self._offset = rest(content, offset), size, offset
        self.call = stub.UploadMedia.future(self._sending(), timeout=90, metadata=metadata)

    def _sending(self) -> Iterator[UploadMediaRequest]:
        yield next(self._requests)
        for _ in range(self._offset, self._size, 1000):
            yield next(self._requests)
        self._end.wait()

    def lose(self) -> None:
        self.call.cancel()
        self._end.set()


class SteppedUpload:
    """Sends as much as it is told."""

    def __init__(self, stub: IngestServiceStub, offset: int = 0) -> None:
        self._requests, self._sent = rest(CONTENT, offset), offset
        self._steps = queue.Queue[int]()
        self.call = stub.UploadMedia.future(self._sending(), timeout=90)

    def send(self, until_byte: int) -> None:
        """The rest is sent with the last byte."""
        self._steps.put(until_byte)

    def _sending(self) -> Iterator[UploadMediaRequest]:
        yield next(self._requests)
        while self._sent < len(CONTENT):
            until_byte = self._steps.get(timeout=90)
            while self._sent < until_byte:
                yield next(self._requests)
                self._sent += 1000


def parts_folder(harness: IngestHarness) -> Path:
    return harness.home / "media" / ".parts"


def kept(harness: IngestHarness) -> list[int]:
    """How much is kept of each upload with which somebody may go on."""
    sizes = []
    for folder, folders, names in os.walk(parts_folder(harness)):  # in which folders may be gone by now
        if not folders and names:
            with suppress(FileNotFoundError):
                sizes.append(sum(os.path.getsize(os.path.join(folder, name)) for name in names))
    return sorted(sizes)


def arrived(harness: IngestHarness) -> list[int]:
    """How much of each upload that is arriving is not in a part yet."""
    return sorted(path.stat().st_size for path in (harness.home / "media" / ".spool").iterdir())


async def received(stub: IngestServiceStub, sha256: str = SHA256, camera: str = "porch") -> GetUploadResponse:
    request = GetUploadRequest(camera_id=camera, sha256=sha256)
    return await asyncio.to_thread(stub.GetUpload, request, timeout=90)


async def lose_upload(
    harness: IngestHarness, stub: IngestServiceStub, content: bytes = CONTENT, size: int = 4000
) -> None:
    """Returns when what had arrived is kept."""
    before = kept(harness)
    lost = LostUpload(stub, content, size)
    await until(lambda: size in arrived(harness))
    lost.lose()
    await until(lambda: harness.ingest.uploads.in_progress == 0)
    assert kept(harness) == sorted([*before, size])


async def test_an_upload_goes_on_where_its_connection_was_lost(harness: IngestHarness) -> None:
    async with serving(harness) as stub:
        assert await received(stub) == GetUploadResponse()
        await lose_upload(harness, stub)
        found = await received(stub)
        assert found.received_bytes == 4000
        assert abs(found.expires_at.ToSeconds() - time.time() - KEPT_SECONDS) < 60
        response = await upload(stub, rest(CONTENT, 4000))
        assert response.media_id == media_id("porch", SHA256)
        assert await content_of(harness.blobs, SHA256) == CONTENT
        assert await received(stub) == GetUploadResponse()
        assert kept(harness) == []
    assert len(harness.bus.media) == 1


async def test_a_restart_keeps_what_has_arrived(harness: IngestHarness) -> None:
    async with serving(harness) as stub:
        await lose_upload(harness, stub)
    async with serving(harness) as stub:
        assert (await received(stub)).received_bytes == 4000
        await lose_upload_further(harness, stub, 4000, 7000)
    async with serving(harness) as stub:
        await upload(stub, rest(CONTENT, 7000))
        assert await content_of(harness.blobs, SHA256) == CONTENT


async def lose_upload_further(
    harness: IngestHarness, stub: IngestServiceStub, offset: int, size: int
) -> None:
    lost = LostUpload(stub, CONTENT, size, offset)
    await until(lambda: arrived(harness) == [size - offset])
    lost.lose()
    await until(lambda: harness.ingest.uploads.in_progress == 0)


@asynccontextmanager
async def replica(
    harness: IngestHarness, name: str
) -> AsyncIterator[tuple[IngestHarness, IngestServiceStub]]:
    """Another ingest_svc with the same blobs and the same store."""
    other = IngestHarness(harness.home.with_name(name))
    other.blobs.close()
    other.blobs, other.uploads = FileBlobs(harness.home / "media"), harness.uploads
    async with serving(other) as stub:
        yield other, stub
    other.blobs.close()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_progress, "PART_BYTES", 2500)


@pytest.mark.usefixtures("small_parts")
async def test_an_upload_goes_on_at_another_replica(harness: IngestHarness) -> None:
    async with serving(harness) as stub, replica(harness, "b") as (other, other_stub):
        lost = LostUpload(stub, size=7000)

        async def has_two_parts() -> bool:  # of three chunks
            return (await received(other_stub)).received_bytes == 6000

        await until_async(has_two_parts)
        await until(lambda: arrived(harness) == [1000])
        lost.lose()
        await until(lambda: kept(harness) == [7000])
        assert (await upload(other_stub, rest(CONTENT, 7000))).media_id == media_id("porch", SHA256)
        assert await content_of(harness.blobs, SHA256) == CONTENT
        assert (kept(harness), arrived(harness), harness.uploads.uploads) == ([], [], [])
    assert (len(harness.bus.media), len(other.bus.media)) == (0, 1)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("sizes", [[], [1000, 2000, 3000, 9000], [2000, 4000, 6000, 8000]])
async def test_the_content_is_that_of_all_parts_however_often_it_goes_on(
    harness: IngestHarness, sizes: list[int]
) -> None:
    offset = 0
    async with serving(harness) as stub, replica(harness, "b") as (other, other_stub):
        for size, (at, call) in zip(sizes, [(harness, stub), (other, other_stub)] * 2, strict=False):
            lost = LostUpload(call, CONTENT, size, offset)
            await until(lambda size=size: sum(kept(harness)) + sum(arrived(harness)) == size)  # type: ignore[misc]
            lost.lose()
            await until(lambda at=at: at.ingest.uploads.in_progress == 0)  # type: ignore[misc]
            offset = size
        await upload(stub, rest(CONTENT, offset))
    assert await content_of(harness.blobs, SHA256) == CONTENT
    assert (kept(harness), harness.uploads.uploads) == ([], [])


async def test_of_two_replicas_that_go_on_one_wins_and_the_other_is_told(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_progress, "WAITING_SECONDS", 0.3)
    async with serving(harness) as stub, replica(harness, "b") as (_, other_stub):
        await lose_upload(harness, stub)
        first = LostUpload(stub, size=6000, offset=4000)
        await until(lambda: arrived(harness) == [2000])
        with pytest.raises(Exhausted) as refused:
            await upload(other_stub, rest(CONTENT, 4000))
        assert refused.value.reason == "UPLOAD_IN_PROGRESS"
        first.lose()
        await until(lambda: kept(harness) == [6000])
        with pytest.raises(Conflict) as raised:
            await upload(other_stub, rest(CONTENT, 4000))
        assert (raised.value.reason, raised.value.metadata) == (
            "OFFSET_MISMATCH",
            {"received_bytes": "6000"},
        )
        await upload(other_stub, rest(CONTENT, 6000))
    assert await content_of(harness.blobs, SHA256) == CONTENT


@pytest.mark.usefixtures("small_parts")
async def test_whoever_lost_an_upload_changes_nothing_of_it_any_more(harness: IngestHarness) -> None:
    """As a process that was stopped for longer than its lease."""
    async with serving(harness) as stub, replica(harness, "b") as (_, other_stub):
        stopped = SteppedUpload(stub)
        stopped.send(4000)
        await until(lambda: (kept(harness), arrived(harness)) == ([3000], [1000]))
        harness.ingest.leases._held.clear()  # it does not extend its lease any more
        (record,) = harness.uploads.uploads
        harness.uploads.leases.leases[f"upload/{record.id}"].until = 0
        going_on = SteppedUpload(other_stub, offset=3000)
        going_on.send(7000)
        await until(lambda: kept(harness) == [6000])
        stopped.send(len(CONTENT))
        await until(stopped.call.done)
        assert stopped.call.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "taken this upload over" in stopped.call.details()
        going_on.send(len(CONTENT))
        await until(going_on.call.done)
        assert going_on.call.result().media_id == media_id("porch", SHA256)
    assert await content_of(harness.blobs, SHA256) == CONTENT
    assert (kept(harness), harness.uploads.uploads) == ([], [])


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("lost", ["file", "folder", "head"])
async def test_an_upload_whose_parts_are_gone_begins_anew(harness: IngestHarness, lost: str) -> None:
    async with serving(harness) as stub:
        await lose_upload_in_parts(harness, stub, 8000)
        (folder,) = parts_folder(harness).iterdir()
        files = sorted(folder.iterdir())
        for file in {"file": files[-1:], "head": files[:1], "folder": files}[lost]:
            file.unlink()
        with pytest.raises(Conflict) as raised:
            await upload(stub, rest(CONTENT, 8000))
        assert (raised.value.reason, raised.value.metadata) == ("OFFSET_MISMATCH", {"received_bytes": "0"})
        assert (await received(stub)).received_bytes == 0
        await upload(stub, parts(CONTENT))
    assert await content_of(harness.blobs, SHA256) == CONTENT
    assert kept(harness) == []


async def lose_upload_in_parts(harness: IngestHarness, stub: IngestServiceStub, size: int) -> None:
    lost = LostUpload(stub, CONTENT, size)
    await until(lambda: sum(kept(harness)) + sum(arrived(harness)) == size)
    lost.lose()
    await until(lambda: harness.ingest.uploads.in_progress == 0)


@pytest.mark.usefixtures("small_parts")
async def test_the_store_may_restart_while_an_upload_arrives(harness: IngestHarness) -> None:
    async with serving(harness) as stub:
        harness.uploads.failures = 3
        assert (await upload(stub, parts(CONTENT))).media_id == media_id("porch", SHA256)
    assert (kept(harness), harness.uploads.uploads) == ([], [])


async def test_uploads_are_kept_when_the_process_is_about_to_end(harness: IngestHarness) -> None:
    other = jpeg("two", pixels=b"\x12" * 9000)
    async with serving(harness) as stub:
        arriving = SteppedUpload(stub)
        arriving.send(4000)
        await until(lambda: arrived(harness) == [4000])
        await harness.ingest.uploads.interrupt()
        assert kept(harness) == [4000]
        await until(arriving.call.done)
        assert (arriving.call.code(), arriving.call.details()) == (
            grpc.StatusCode.UNAVAILABLE,
            "this process is about to end; go on at another",
        )
        arriving.send(len(CONTENT))
        with pytest.raises(Unavailable) as refused:
            await upload(stub, parts(other))
        assert refused.value.reason == "STOPPING"
    async with serving(harness) as stub:
        await upload(stub, rest(CONTENT, 4000))
    assert await content_of(harness.blobs, SHA256) == CONTENT


async def test_a_slow_upload_is_kept_in_small_parts(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_progress, "PART_SECONDS", 0.0)
    async with serving(harness) as stub:
        slow = LostUpload(stub)
        await until(lambda: kept(harness) == [4000])
        assert (await received(stub)).received_bytes == 4000
        slow.lose()


async def test_all_that_had_arrived_when_storing_failed_is_not_sent_again(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with serving(harness) as stub:
        with monkeypatch.context() as patched:
            patched.setattr(harness.blobs, "_store", full)
            with pytest.raises(Unavailable):
                await upload(stub, parts(CONTENT))
        assert (await received(stub)).received_bytes == len(CONTENT)
        await upload(stub, rest(CONTENT, len(CONTENT)))
        assert await content_of(harness.blobs, SHA256) == CONTENT


@pytest.mark.parametrize("offset", [1, 3999, 4001, 8000, len(CONTENT), len(CONTENT) + 5])
async def test_a_wrong_offset_is_told_the_right_one(harness: IngestHarness, offset: int) -> None:
    async with serving(harness) as stub:
        with pytest.raises(Conflict) as raised:
            await upload(stub, rest(CONTENT, offset))
        assert (raised.value.reason, raised.value.metadata) == ("OFFSET_MISMATCH", {"received_bytes": "0"})
        assert kept(harness) == []
        await lose_upload(harness, stub)
        with pytest.raises(Conflict) as raised:
            await upload(stub, rest(CONTENT, offset))
        assert raised.value.metadata == {"received_bytes": "4000"}
        assert (await received(stub)).received_bytes == 4000
        await upload(stub, rest(CONTENT, 4000))
    assert len(harness.bus.media) == 1


async def test_without_an_offset_it_begins_anew(harness: IngestHarness) -> None:
    async with serving(harness) as stub:
        await lose_upload(harness, stub)
        await upload(stub, parts(CONTENT))
        assert await content_of(harness.blobs, SHA256) == CONTENT
        assert kept(harness) == []


@pytest.mark.parametrize("wrong", [b"\x13" * len(CONTENT), CONTENT + b"more"], ids=["content", "size"])
async def test_what_turns_out_to_be_wrong_is_thrown_away(harness: IngestHarness, wrong: bytes) -> None:
    async with serving(harness) as stub:
        await lose_upload(harness, stub)
        with pytest.raises(Invalid) as raised:
            await upload(
                stub, rest(CONTENT[:4000] + wrong[4000:], 4000, sha256=SHA256, size_bytes=len(CONTENT))
            )
        assert raised.value.reason in ("SHA256_MISMATCH", "SIZE_MISMATCH")
        assert kept(harness) == []
        await upload(stub, parts(CONTENT))
    assert len(harness.bus.media) == 1


async def test_parts_belong_to_one_camera_and_one_content(harness: IngestHarness) -> None:
    async with serving(harness) as stub:
        await lose_upload(harness, stub)
        assert (await received(stub, camera="garden")).received_bytes == 0
        assert (await received(stub, sha256="0" * 64)).received_bytes == 0


async def test_a_second_connection_waits_for_the_first(harness: IngestHarness) -> None:
    async with serving(harness) as stub:
        first = LostUpload(stub)
        await until(lambda: arrived(harness) == [4000])
        second = asyncio.create_task(upload(stub, rest(CONTENT, 4000)))
        await until(lambda: harness.ingest.uploads.in_progress == 2)
        await asyncio.sleep(0.2)
        assert not second.done()
        first.lose()
        assert (await second).media_id == media_id("porch", SHA256)
    assert await content_of(harness.blobs, SHA256) == CONTENT


async def test_a_second_connection_does_not_wait_for_ever(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_progress, "WAITING_SECONDS", 0.1)
    async with serving(harness) as stub:
        first = LostUpload(stub)
        await until(lambda: arrived(harness) == [4000])
        with pytest.raises(Exhausted) as raised:
            await upload(stub, rest(CONTENT, 4000))
        assert raised.value.reason == "UPLOAD_IN_PROGRESS"
        first.lose()


async def test_what_expires_is_removed_at_start(harness: IngestHarness) -> None:
    async with serving(harness) as stub:
        await lose_upload(harness, stub)
        await lose_upload(harness, stub, jpeg("two", pixels=b"\x12" * 9000), 2000)
    harness.uploads.age(harness.uploads.uploads[0], KEPT_SECONDS + 60)
    async with serving(harness) as stub:
        await until(lambda: kept(harness) == [2000])


async def test_parts_of_which_the_store_does_not_know_are_removed(harness: IngestHarness) -> None:
    """Of a process that was killed after it had stored a part, or of a store that was restored from a
    backup. What is no upload's is left alone."""
    async with serving(harness) as stub:
        await lose_upload(harness, stub)
    for folder in (str(uuid4()), "something else"):
        (parts_folder(harness) / folder).mkdir()
        (parts_folder(harness) / folder / "0-1").write_bytes(b"a part")
    async with serving(harness) as stub:
        await until(lambda: kept(harness) == [6, 4000])
        assert (await received(stub)).received_bytes == 4000


async def test_what_has_expired_since_the_start_does_not_count(harness: IngestHarness) -> None:
    async with serving(harness) as stub:
        await lose_upload(harness, stub)
        harness.uploads.age(harness.uploads.uploads[0], KEPT_SECONDS + 60)
        assert await received(stub) == GetUploadResponse()
        with pytest.raises(Conflict) as raised:
            await upload(stub, rest(CONTENT, 4000))
        assert raised.value.metadata == {"received_bytes": "0"}


async def test_unfinished_uploads_have_a_quota_for_each_camera(harness: IngestHarness) -> None:
    harness.settings["upload_quota_bytes"] = len(CONTENT) + 3000
    other = jpeg("two", pixels=b"\x12" * 9000)
    async with serving(harness) as stub:
        await lose_upload(harness, stub)
        with pytest.raises(Exhausted) as raised:
            await upload(stub, parts(other))
        assert raised.value.reason == "UPLOAD_QUOTA"
        assert raised.value.metadata == {
            "camera_id": "porch",
            "needed_bytes": str(len(other)),
            "used_bytes": "4000",
            "quota_bytes": str(len(CONTENT) + 3000),
        }
        await upload(stub, parts(other, "porch-2"))
        await upload(stub, rest(CONTENT, 4000))
        await upload(stub, parts(other))
    assert len(harness.bus.media) == 3


async def test_what_is_arriving_counts_as_much_as_was_declared(harness: IngestHarness) -> None:
    harness.settings["upload_quota_bytes"] = 2 * len(CONTENT) - 1
    other = jpeg("two", pixels=b"\x12" * 9000)
    async with serving(harness) as stub:
        arriving = LostUpload(stub, CONTENT, 1000)
        await until(lambda: arrived(harness) == [1000])
        with pytest.raises(Exhausted) as raised:
            await upload(stub, parts(other))
        assert raised.value.metadata["used_bytes"] == str(len(CONTENT))
        arriving.lose()
        await until(lambda: harness.ingest.uploads.in_progress == 0)
        await upload(stub, parts(other))


async def test_forgotten_parts_give_way_the_oldest_first(harness: IngestHarness) -> None:
    harness.settings["upload_quota_bytes"] = len(CONTENT) + 4500
    contents = [jpeg(str(index), pixels=b"\x12" * 9000) for index in range(3)]
    async with serving(harness) as stub:
        for hours, content in ((3, contents[0]), (2, contents[1])):
            await lose_upload(harness, stub, content, 4000)
            harness.uploads.age(harness.uploads.uploads[-1], hours * GIVES_WAY_SECONDS)
        await upload(stub, parts(contents[2]))
        sizes = [
            (await received(stub, hashlib.sha256(content).hexdigest())).received_bytes
            for content in contents[:2]
        ]
    assert sizes == [0, 4000]


@pytest.mark.parametrize(
    ("free", "size", "taken"), [(0.06, 10**9, True), (0.04, 10**9, False), (0.04, 10**12, True)]
)
async def test_a_part_of_the_disk_stays_free(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch, free: float, size: int, taken: bool
) -> None:
    monkeypatch.setattr(Spool, "free_bytes", lambda _: (int(free * size), size))
    async with serving(harness) as stub:
        if taken:
            await upload(stub, parts(CONTENT))
            return
        with pytest.raises(Unavailable) as raised:
            await upload(stub, parts(CONTENT))
        assert raised.value.reason == "DISK_FULL"
        assert "40000000 are free" in raised.value.message
        with pytest.raises(Unavailable, match="almost full"):
            await harness.ingest.storage.check()


async def test_two_uploads_are_not_promised_the_same_space(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 10**6
    free = size // 20 + len(CONTENT) + 1500
    monkeypatch.setattr(Spool, "free_bytes", lambda _: (free, size))
    async with serving(harness) as stub:
        first = LostUpload(stub, CONTENT, 1000)
        await until(lambda: arrived(harness) == [1000])
        with pytest.raises(Problem) as raised:
            await upload(stub, parts(jpeg("two", pixels=b"\x12" * 9000)))
        assert raised.value.reason == "DISK_FULL"
        first.lose()


async def test_a_deleted_camera_is_told_of_when_asked_for_an_upload(harness: IngestHarness) -> None:
    harness.cameras.configure("gone", deleted=True)
    async with serving(harness) as stub:
        with pytest.raises(grpc.RpcError) as raised:
            await received(stub, camera="gone")
        assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_an_upload_may_take_longer_than_other_calls_and_ends_with_its_key(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.rpc.interceptor.UNARY_SECONDS", 0.05)
    monkeypatch.setattr("mesh.rpc.interceptor.RECHECK_SECONDS", 0.01)
    verified, valid = 0, True

    async def verify(secret: str) -> Caller:
        nonlocal verified
        verified += 1
        if not valid:
            raise Unauthenticated("this key is not known", "BAD_API_KEY")
        return Caller.of_key("k1", "a camera's", camera_id="porch")

    async with serving(harness, verify) as stub:
        revoked = LostUpload(stub, metadata=((API_KEY, "secret"),))
        await until(lambda: arrived(harness) == [4000])
        asked = verified
        await until(lambda: verified > asked + 10)
        assert not revoked.call.done()
        valid = False
        await until(revoked.call.done)
        assert revoked.call.code() is grpc.StatusCode.UNAUTHENTICATED
        revoked.lose()
        await until(lambda: harness.ingest.uploads.in_progress == 0)
        assert kept(harness) == [4000]


async def test_the_parts_of_one_key_are_not_those_of_another(harness: IngestHarness) -> None:
    async def verify(secret: str) -> Caller:
        return Caller.of_key(secret, "")

    async def asked(key: str) -> int:
        request = GetUploadRequest(camera_id="porch", sha256=SHA256)
        answer = await asyncio.to_thread(stub.GetUpload, request, timeout=90, metadata=((API_KEY, key),))
        return answer.received_bytes

    async with serving(harness, verify) as stub:
        lost = LostUpload(stub, metadata=((API_KEY, "a"),))
        await until(lambda: arrived(harness) == [4000])
        lost.lose()
        await until(lambda: kept(harness) == [4000])
        assert [await asked("a"), await asked("b")] == [4000, 0]
