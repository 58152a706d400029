"""Parts of contents that are still arriving, in a folder and in a bucket of a real S3 server."""

import asyncio
import os
from uuid import uuid4

import pytest

from mesh.blobs import Blobs
from mesh.blobs.parts import PART_BYTES, StoredPart
from mesh.problems import NotFound, Unavailable
from tests.support.blob_location import CONTENT, BlobLocation, names


async def put(blobs: Blobs, folder: str, name: str, content: bytes) -> StoredPart:
    async with blobs.spooled() as spooled:
        await asyncio.to_thread(spooled.write, content)
        return await blobs.parts.put(folder, name, spooled)


async def read(blobs: Blobs, folder: str, part: StoredPart) -> bytes:
    pieces = [piece async for piece in blobs.parts.read(folder, part)]
    assert all(0 < len(piece) <= 2**20 for piece in pieces)
    return b"".join(pieces)


async def folders(blobs: Blobs) -> list[str]:
    return sorted([folder async for folder in blobs.parts.folders()])


@pytest.mark.parametrize("size", [1, 700_000, 2**20, PART_BYTES])
async def test_a_part_is_read_as_it_was_put_by_another_process_too(
    location: BlobLocation, blobs: Blobs, size: int
) -> None:
    content = (CONTENT * 7)[:size]
    part = await put(blobs, "upload", "0-1", content)
    assert part == StoredPart("0-1", size)
    async with location.open() as others:
        assert await read(others, "upload", part) == content
        assert await names(others) == []  # a part is no blob
    assert list(location.spool.iterdir()) == []


async def test_parts_are_listed_by_folder_and_removed_together(blobs: Blobs) -> None:
    assert await folders(blobs) == []
    ids = sorted(str(uuid4()) for _ in range(3))
    parts = [await put(blobs, id, f"{n}-1", os.urandom(10)) for id in ids for n in range(3)]
    assert await folders(blobs) == ids
    await blobs.parts.remove(ids[1])
    await blobs.parts.remove("nothing")
    assert await folders(blobs) == [ids[0], ids[2]]
    with pytest.raises(NotFound) as gone:
        await read(blobs, ids[1], parts[3])
    assert gone.value.reason == "PART_NOT_FOUND"
    assert len(await read(blobs, ids[2], parts[8])) == 10


async def test_a_folder_whose_name_begins_like_another_is_left_alone(blobs: Blobs) -> None:
    part = await put(blobs, "upload-2", "0-1", b"a")
    await put(blobs, "upload", "0-1", b"b")
    await blobs.parts.remove("upload")
    assert await read(blobs, "upload-2", part) == b"a"


async def test_a_part_of_another_size_is_none(blobs: Blobs) -> None:
    part = await put(blobs, "upload", "0-1", b"abc")
    with pytest.raises(NotFound) as problem:
        await read(blobs, "upload", part._replace(size=4))
    assert problem.value.reason == "PART_NOT_FOUND"


async def test_parts_and_blobs_do_not_mix(blobs: Blobs) -> None:
    content = os.urandom(1000)
    part = await put(blobs, "upload", "0-1", content)
    async with blobs.spooled() as spooled:
        async for piece in blobs.parts.read("upload", part):
            await asyncio.to_thread(spooled.write, piece)
        blob = await spooled.store()
    await blobs.parts.remove("upload")
    assert await names(blobs) == [blob.sha256]
    assert await blobs.size(blob.sha256) == 1000


async def test_a_storage_that_is_away_is_told(location: BlobLocation, blobs: Blobs) -> None:
    part = await put(blobs, "upload", "0-1", b"abc")
    if location.settings["LARES_BLOBS_URL"].startswith("s3"):
        return  # tests/mesh/test_s3.py has a server that is away
    folder = location.spool.parent / ".parts" / "upload" / "0-1"
    folder.unlink()
    folder.mkdir()
    with pytest.raises(Unavailable):
        await read(blobs, "upload", part)
