"""Blobs in a bucket. tests/contract/test_blobs.py has what all blobs must do."""

import asyncio
import errno
import io
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import obstore
import pytest
from obstore.store import S3Store

from ingest_svc.leases import Leases
from ingest_svc.receiving.upload_records import UploadRecords
from ingest_svc.service import compose
from mesh.blobs import open_blobs
from mesh.blobs import s3 as module
from mesh.blobs.cache import BlobCache
from mesh.blobs.s3 import S3Blobs, S3Bucket
from mesh.blobs.spool import Spool
from mesh.config import load_config
from mesh.problems import Invalid, NotFound, Unavailable
from mesh.rpc import GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from tests.support.ingest_harness import FakeBus, FakeCameras, FakeKnownFiles
from tests.support.lares import free_ports
from tests.support.s3 import READER, READER_SECRET, S3, SECRET, WRITER, WRITER_SECRET

CONTENT = os.urandom(100_000)


@asynccontextmanager
async def opened(folder: Path, url: str, *, used: bool = True, **settings: object) -> AsyncIterator[S3Blobs]:
    blobs = await open_blobs(load_config(cache=folder, blobs_url=url, **settings), used=used)
    assert isinstance(blobs, S3Blobs)
    try:
        yield blobs
    finally:
        blobs.close()


@pytest.fixture
def prefix() -> str:
    return f"s3/{uuid4().hex}"


@pytest.fixture
async def blobs(s3: S3, tmp_path: Path, prefix: str) -> AsyncIterator[S3Blobs]:
    async with opened(tmp_path, s3.url("lares", prefix)) as blobs:
        yield blobs


async def local(blobs: S3Blobs, name: str) -> bytes:
    async with blobs.local(name) as path:
        return path.read_bytes()


USES: list[Callable[[S3Blobs, str], Awaitable[object]]] = [
    lambda blobs, name: blobs.size(name),
    lambda blobs, name: local(blobs, name),
    lambda blobs, name: anext(blobs.open_range(name, 0, 1)),
    lambda blobs, name: blobs.put(io.BytesIO(CONTENT)),
    lambda blobs, name: anext(blobs.list()),
    lambda blobs, name: blobs.check(),
]


async def require_unavailable(blobs: S3Blobs, name: str) -> None:
    """No operation reports the blob as missing."""
    for use in USES:
        with pytest.raises(Unavailable) as problem:
            await use(blobs, name)
        assert problem.value.reason == "BLOBS_UNAVAILABLE"
        assert SECRET not in problem.value.message


async def test_wrong_credentials_are_a_bad_setting(
    s3: S3, blobs: S3Blobs, tmp_path: Path, prefix: str
) -> None:
    name = (await blobs.put(io.BytesIO(CONTENT))).sha256
    url = s3.url("lares", prefix, secret="wrong")
    with pytest.raises(Invalid, match=r"LARES_BLOBS_URL: .*SignatureDoesNotMatch") as problem:
        async with opened(tmp_path / "b", url):
            pass
    assert problem.value.reason == "BAD_SETTING"
    async with opened(tmp_path / "b", url, used=False) as stranger:
        await require_unavailable(stranger, name)


async def test_a_missing_bucket_is_not_a_missing_blob(s3: S3, tmp_path: Path) -> None:
    # On this server, a write by the user with all permissions would create the bucket.
    url = s3.url("nowhere", key=READER, secret=READER_SECRET)
    with pytest.raises(Invalid, match=r"LARES_BLOBS_URL: .*NoSuchBucket") as problem:
        async with opened(tmp_path, url):
            pass
    assert problem.value.reason == "BAD_SETTING"
    async with opened(tmp_path, url, used=False) as lost:
        await require_unavailable(lost, "ab" * 32)
    async with opened(tmp_path, s3.url("nowhere"), used=False) as lost:
        with pytest.raises(Unavailable):
            await lost.size("ab" * 32)


async def test_a_user_who_may_only_read_can_read_and_is_refused_before_a_put(
    s3: S3, blobs: S3Blobs, tmp_path: Path, prefix: str
) -> None:
    name = (await blobs.put(io.BytesIO(CONTENT))).sha256
    async with opened(tmp_path / "b", s3.url("lares", prefix, READER, READER_SECRET)) as reader:
        assert await local(reader, name) == CONTENT
        assert [found async for found in reader.list()] == [name]
        with pytest.raises(Invalid, match="a probe could not be written, read and deleted") as problem:
            await reader.prepare()
        assert problem.value.reason == "BAD_SETTING"
        with pytest.raises(Unavailable):
            await reader.put(io.BytesIO(b"more"))


async def start_ingesting(home: Path, blobs: S3Blobs) -> None:
    bus, store, config = FakeBus(), GrpcServer(CallInterceptor).channel(), load_config(home=home)
    leases = Leases(store, "a test")
    records = UploadRecords(store, leases, config.upload_quota_bytes)
    cameras, known = FakeCameras(), FakeKnownFiles()
    async with compose(config, cameras, known, leases, records, blobs, bus, bus.detection, "an owner"):
        pass


async def test_ingest_does_not_start_for_a_user_who_may_write_but_not_read(
    s3: S3, tmp_path: Path, prefix: str
) -> None:
    async with opened(tmp_path, s3.url("lares", prefix, WRITER, WRITER_SECRET)) as writer:
        await obstore.put_async(writer._bucket.value, "anything", b"")  # this is allowed
        with pytest.raises(Invalid, match=r"LARES_BLOBS_URL: a probe could not .*AccessDenied") as problem:
            await start_ingesting(tmp_path / "home", writer)
        assert problem.value.reason == "BAD_SETTING"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"another", "a probe was not read back as it was written"),
        (FileNotFoundError(), "a probe could not be written, read and deleted"),
    ],
    ids=["other bytes", "nothing"],
)
async def test_ingest_does_not_start_if_the_probe_is_not_read_back(
    blobs: S3Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes | Exception, words: str
) -> None:
    async def get(*_: object, **__: object) -> bytes:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(obstore, "get_range_async", get)
        with pytest.raises(Invalid, match=f"LARES_BLOBS_URL: {words}") as problem:
            await start_ingesting(tmp_path / "home", blobs)
        assert problem.value.reason == "BAD_SETTING"
    await start_ingesting(tmp_path / "home", blobs)


async def test_the_probe_is_removed(s3: S3, blobs: S3Blobs, prefix: str) -> None:
    await blobs.prepare()
    assert [key async for key in blobs._keys()] == []


async def test_a_server_that_is_down_is_unavailable(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"s3://key:secret@lares?endpoint=http://127.0.0.1:{port}&region=us-east-1"
    with pytest.raises(Unavailable):
        async with opened(tmp_path, url):
            pass
    async with opened(tmp_path, url, used=False) as blobs:
        with pytest.raises(Unavailable):
            await blobs.size("ab" * 32)


async def test_a_server_that_never_answers_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CALL_SECONDS", "PART_SECONDS", "CHECK_SECONDS"):
        monkeypatch.setattr(module, name, 0.3)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"s3://key:secret@lares?endpoint=http://127.0.0.1:{port}&region=us-east-1"
    async with opened(tmp_path, url, used=False) as blobs:
        await asyncio.wait_for(require_unavailable(blobs, "ab" * 32), 30)
    server.close()


async def test_a_failing_request_is_tried_four_times(tmp_path: Path) -> None:
    """As docs/blobs.md says. The failure is not reported as a bad setting."""
    requests: list[str] = []

    async def overloaded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        requests.append(head.partition("\r\n")[0])
        if length := re.search(r"\r\ncontent-length: (\d+)", head):
            await reader.readexactly(int(length[1]))
        writer.write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(overloaded, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"s3://key:secret@lares?endpoint=http://127.0.0.1:{port}&region=us-east-1"
    async with opened(tmp_path, url, used=False) as blobs:
        for operation in (
            blobs.size("ab" * 32),
            blobs.put(io.BytesIO(CONTENT)),
            anext(blobs.list()),
            blobs.prepare(),
        ):
            requests.clear()
            with pytest.raises(Unavailable) as problem:
                await operation
            assert problem.value.reason == "BLOBS_UNAVAILABLE"
            assert len(requests) == 4
            assert len(set(requests)) == 1
    server.close()


async def test_damaged_content_is_refused_and_repaired_by_a_put(
    blobs: S3Blobs, s3: S3, tmp_path: Path, prefix: str
) -> None:
    name = (await blobs.put(io.BytesIO(CONTENT))).sha256
    await obstore.put_async(blobs._bucket.value, f"{name[:2]}/{name}", b"x" * len(CONTENT))
    async with opened(tmp_path / "b", s3.url("lares", prefix)) as reader:
        with pytest.raises(NotFound) as problem:
            await local(reader, name)
        assert problem.value.reason == "BLOB_DAMAGED"
        await reader.put(io.BytesIO(CONTENT))  # this repairs it
        assert await local(reader, name) == CONTENT


async def test_content_that_was_put_or_read_is_read_again_without_the_server(
    blobs: S3Blobs, s3: S3, tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = (await blobs.put(io.BytesIO(CONTENT))).sha256
    async with opened(tmp_path / "b", s3.url("lares", prefix)) as reader:
        assert await local(reader, name) == CONTENT
        monkeypatch.setattr(obstore, "head_async", lambda *_: pytest.fail("requested"))
        monkeypatch.setattr(obstore, "get_range_async", lambda *_: pytest.fail("requested"))
        assert await local(reader, name) == CONTENT
        assert await local(blobs, name) == CONTENT


async def test_concurrent_readers_share_one_download(
    blobs: S3Blobs, s3: S3, tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = (await blobs.put(io.BytesIO(CONTENT))).sha256
    get, got = obstore.get_range_async, list[str]()

    async def counted(store: object, key: str, *, start: int, end: int) -> object:
        got.append(key)
        return await get(blobs._bucket.value, key, start=start, end=end)

    monkeypatch.setattr(obstore, "get_range_async", counted)
    async with opened(tmp_path / "b", s3.url("lares", prefix)) as reader:
        assert await asyncio.gather(*(local(reader, name) for _ in range(8))) == [CONTENT] * 8
    assert len(got) == 1


async def test_only_so_many_contents_are_uploaded_at_once(
    blobs: S3Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, uploading, most = obstore.put_async, list[str](), list[int]()

    async def counted(bucket: S3Store, key: str, content: bytes) -> object:
        uploading.append(key)
        most.append(len(uploading))
        try:
            return await put(bucket, key, content)
        finally:
            uploading.remove(key)

    monkeypatch.setattr(obstore, "put_async", counted)
    await asyncio.gather(*(blobs.put(io.BytesIO(os.urandom(1000))) for _ in range(30)))
    assert max(most) == module.MAX_UPLOADS


async def test_copies_are_bounded_by_the_setting(s3: S3, blobs: S3Blobs, tmp_path: Path, prefix: str) -> None:
    names = [(await blobs.put(io.BytesIO(os.urandom(100_000)))).sha256 for _ in range(8)]
    url = s3.url("lares", prefix)
    async with opened(tmp_path / "b", url, blobs_cache_bytes=300_000) as reader:
        for name in names:
            assert len(await local(reader, name)) == 100_000
        async with AsyncExitStack() as held:
            paths = [await held.enter_async_context(reader.local(name)) for name in names[:5]]
            assert all(path.exists() for path in paths)
    copies = [path for path in (tmp_path / "b" / "blobs").rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in copies) <= 300_000


async def test_the_check_sends_a_request_only_without_a_recent_answer(
    blobs: S3Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await blobs.check()
    monkeypatch.setattr(obstore, "list", lambda *_, **__: pytest.fail("requested"))
    await blobs.check()
    monkeypatch.setattr(module, "FRESH_SECONDS", 0)
    with pytest.raises(pytest.fail.Exception):
        await blobs.check()


async def test_credentials_are_read_from_the_environment_if_the_url_has_none(
    s3: S3, tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "lares")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    async with opened(tmp_path, f"s3://lares/{prefix}") as blobs:
        await blobs.prepare()


@pytest.mark.parametrize(
    ("url", "bucket"),
    [
        ("s3://photos", S3Bucket("photos", "")),
        ("s3://photos/me@home", S3Bucket("photos", "me@home")),
        ("s3://photos/a/b%20c/?region=eu-1", S3Bucket("photos", "a/b c", region="eu-1")),
        (
            "s3://me:se%2Fcr%40et@photos?endpoint=https://s3.example:9000",
            S3Bucket("photos", "", "https://s3.example:9000", None, "me", "se/cr@et"),
        ),
    ],
)
def test_a_url_is_parsed(url: str, bucket: S3Bucket) -> None:
    assert S3Bucket.parse(url) == bucket
    assert "cr@et" not in repr(bucket)


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///photos",
        "s3://photos?bucket=b",
        "s3://photos?endpoint=s3.example",
        "s3://me@photos",
        "s3://me:@photos",
        "s3://me:se/cret@photos",
        "s3://me:se?cret@photos",
        "s3://me:x/se?cret=1@photos",
        "s3://photos?region=",
        "s3://photos?endpoint=me:cret@s3.example",
        "s3://[x",
        "s3://pho tos",
    ],
)
def test_an_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="LARES_BLOBS_URL: ") as problem:
        S3Bucket.parse(url)
    assert problem.value.reason == "BAD_SETTING"
    assert "cret" not in problem.value.message.replace("secret", "")


async def test_a_full_disk_is_not_a_missing_blob(
    s3: S3, blobs: S3Blobs, tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = (await blobs.put(io.BytesIO(CONTENT))).sha256

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with opened(tmp_path / "b", s3.url("lares", prefix)) as reader:
        with monkeypatch.context() as patch:
            patch.setattr(Spool, "create", full)
            with pytest.raises(Unavailable, match="No space left"):
                await local(reader, name)
        assert await local(reader, name) == CONTENT
    async with opened(tmp_path / "c", s3.url("lares", prefix)) as writer:
        monkeypatch.setattr(BlobCache, "add", full)  # only the local copy is missing
        more = await writer.put(io.BytesIO(b"more"))
        assert await blobs.size(more.sha256) == 4
