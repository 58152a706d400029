"""What all blobs must do, in a folder and in a bucket of a real S3 server."""

import asyncio
import io
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mesh.blobs import Blob, Blobs
from mesh.problems import Conflict, Invalid, NotFound
from tests.support.blob_location import APART_SECONDS, CONTENT, BlobLocation, blob_of, names
from tests.support.blobs import content_of


async def in_chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 65_536):
        yield content[start : start + 65_536]


@pytest.mark.parametrize("content", [b"", b"a", CONTENT, CONTENT * 9])
@pytest.mark.parametrize("kind", ["path", "stream", "chunks"])
async def test_a_blob_is_read_as_it_was_put(
    location: BlobLocation, blobs: Blobs, source: Path, content: bytes, kind: str
) -> None:
    source.write_bytes(content)
    sources = {"path": source, "stream": io.BytesIO(content), "chunks": in_chunks(content)}
    blob = await blobs.put(sources[kind])  # type: ignore[arg-type]
    assert blob == blob_of(content)
    async with location.open() as others:
        assert await others.size(blob.sha256) == len(content)
        assert await content_of(others, blob.sha256) == content
        async with others.local(blob.sha256) as path:
            assert path.read_bytes() == content
        assert await names(others) == [blob.sha256]
    assert list(location.spool.iterdir()) == []
    assert source.exists()


async def test_ranges_of_bytes_can_be_read(blobs: Blobs) -> None:
    content = CONTENT * 4
    name = (await blobs.put(io.BytesIO(content))).sha256
    middle = 2**20
    for start, end in [(0, 0), (0, 1), (5, 5), (middle - 3, middle + 3), (7, len(content))]:
        pieces = [piece async for piece in blobs.open_range(name, start, end)]
        assert b"".join(pieces) == content[start:end]
        assert all(len(piece) <= 2**20 for piece in pieces)
    for start, end in [(0, len(content) + 1), (-1, 3), (4, 3)]:
        with pytest.raises(Invalid):
            await anext(blobs.open_range(name, start, end))


async def test_an_unknown_blob_is_not_found(blobs: Blobs) -> None:
    name = blob_of(b"nobody put this").sha256
    for work in (blobs.size(name), anext(blobs.open_range(name, 0, 0), None), open_local(blobs, name)):
        with pytest.raises(NotFound) as problem:
            await work
        assert problem.value.reason == "BLOB_NOT_FOUND"
    assert await blobs.delete(name, datetime.now(UTC)) is False
    assert await names(blobs) == []


async def open_local(blobs: Blobs, name: str) -> None:
    async with blobs.local(name) as path:
        path.read_bytes()


@pytest.mark.parametrize("expect", [blob_of(b"another"), Blob(blob_of(CONTENT).sha256, 1)])
async def test_unexpected_content_is_refused(
    location: BlobLocation, blobs: Blobs, source: Path, expect: Blob
) -> None:
    with pytest.raises(Conflict) as problem:
        await blobs.put(source, expect)
    assert problem.value.reason == "CONTENT_CHANGED"
    assert await names(blobs) == []
    assert list(location.spool.iterdir()) == []
    assert await blobs.put(source, blob_of(CONTENT)) == blob_of(CONTENT)


async def test_spooled_content_can_be_read_and_discarded(location: BlobLocation, blobs: Blobs) -> None:
    async with blobs.spooled() as spooled:
        await asyncio.to_thread(spooled.write, CONTENT[:10])
        await asyncio.to_thread(spooled.copy, io.BytesIO(CONTENT[10:]), 90)
        assert spooled.blob == blob_of(CONTENT[:100])
        assert await asyncio.to_thread(spooled.read, 5, 20) == CONTENT[5:25]
        assert await asyncio.to_thread(spooled.read, 90, 20) == CONTENT[90:100]
    assert list(location.spool.iterdir()) == []
    assert await names(blobs) == []
    with pytest.raises(ValueError, match="closed"):
        spooled.write(b"more")


async def test_a_source_that_fails_leaves_nothing(
    location: BlobLocation, blobs: Blobs, tmp_path: Path
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT
        raise OSError("unplugged")

    with pytest.raises(FileNotFoundError):
        await blobs.put(tmp_path / "gone.jpg")
    with pytest.raises(OSError, match="unplugged"):
        await blobs.put(broken())
    assert await names(blobs) == []
    assert list(location.spool.iterdir()) == []


async def test_a_cancelled_put_leaves_nothing_in_the_spool(location: BlobLocation, blobs: Blobs) -> None:
    reading, wait = asyncio.Event(), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield CONTENT
        reading.set()
        await wait.wait()

    putting = asyncio.create_task(blobs.put(endless()))
    await reading.wait()
    putting.cancel()
    await asyncio.wait([putting])
    assert putting.cancelled()
    assert list(location.spool.iterdir()) == []


async def test_concurrent_puts(location: BlobLocation) -> None:
    contents = [os.urandom(1000) for _ in range(30)]
    async with location.open() as one, location.open() as other:
        await asyncio.gather(*(side.put(io.BytesIO(c)) for c in contents for side in (one, other, one)))
        assert await names(one) == sorted(blob_of(content).sha256 for content in contents)
        for content in contents:
            assert await content_of(other, blob_of(content).sha256) == content
    assert list(location.spool.iterdir()) == []


async def test_a_blob_that_was_put_again_is_not_deleted(blobs: Blobs, source: Path) -> None:
    name = (await blobs.put(source)).sha256
    other = (await blobs.put(io.BytesIO(b"other"))).sha256
    before = datetime.now(UTC) - timedelta(seconds=60)
    assert await blobs.delete(name, before) is False
    await asyncio.sleep(APART_SECONDS)
    between = datetime.now(UTC)
    await blobs.put(source)  # this renews its time
    assert await blobs.delete(name, between) is False
    assert await content_of(blobs, name) == CONTENT
    assert await blobs.delete(other, between) is True
    assert await names(blobs) == [name]
    for work in (blobs.size(other), open_local(blobs, other)):
        with pytest.raises(NotFound):
            await work
    assert await blobs.delete(other, between) is False
