"""Processes that are killed or stopped while they put or delete a blob."""

import asyncio
import io
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mesh.blobs import Blob, Blobs
from mesh.problems import NotFound
from tests.support.blob_location import APART_SECONDS, CONTENT, BlobLocation, blob_of, names
from tests.support.blobs import content_of


async def test_a_put_that_is_killed_before_any_step_leaves_all_or_nothing(
    location: BlobLocation, source: Path
) -> None:
    source.write_bytes(CONTENT * 9)  # on S3, two parts
    blob = blob_of(CONTENT * 9)
    seen: set[bool] = set()

    async def check(before: int) -> None:
        async with location.open() as blobs:
            assert list(location.spool.iterdir()) == []
            seen.add(await is_whole(blobs, blob, CONTENT * 9))
            assert await blobs.put(source) == blob
            assert await is_whole(blobs, blob, CONTENT * 9)
            assert await blobs.delete(blob.sha256, datetime.now(UTC) + timedelta(hours=1))

    steps = await kill_before_each_step(location, "put", str(source), check)
    assert steps > 8
    assert seen == {True, False}


async def test_a_deletion_that_is_killed_before_any_step_leaves_all_or_nothing(
    location: BlobLocation, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.blobs.s3.ABANDONED_MARK_SECONDS", 0.5)
    blob, later = blob_of(CONTENT), datetime.now(UTC) + timedelta(hours=1)
    seen: set[bool] = set()
    async with location.open() as blobs:
        await blobs.put(source)

    async def check(before: int) -> None:
        async with location.open() as blobs:
            there = await is_whole(blobs, blob, CONTENT)
            seen.add(there)
            assert await blobs.delete(blob.sha256, later) is there
            assert not await is_whole(blobs, blob, CONTENT)
            assert await blobs.put(source) == blob
            assert await is_whole(blobs, blob, CONTENT)

    steps = await kill_before_each_step(location, "delete", f"{blob.sha256},{later.isoformat()}", check)
    assert steps > 3
    assert seen == {True, False}


async def kill_before_each_step(
    location: BlobLocation, operation: str, what: str, check: Callable[[int], Awaitable[None]]
) -> int:
    """Returns the number of steps of the operation."""
    async with location.steps() as steps:
        for before in range(200):
            await steps.begin(operation, what, before, signal.SIGKILL)
            if (end := await steps.answer()) == "0":
                return before
            assert end == str(-signal.SIGKILL)
            await check(before)
    raise AssertionError("the operation has too many steps")


async def is_whole(blobs: Blobs, blob: Blob, content: bytes) -> bool:
    """Returns False if no part of the blob is visible."""
    try:
        assert await blobs.size(blob.sha256) == blob.size
    except NotFound:
        with pytest.raises(NotFound):
            await anext(blobs.open_range(blob.sha256, 0, 0))
        assert await names(blobs) == []
        return False
    assert await content_of(blobs, blob.sha256) == content
    async with blobs.local(blob.sha256) as path:
        assert path.read_bytes() == content
    assert await names(blobs) == [blob.sha256]
    return True


async def test_content_that_is_put_during_its_deletion_is_kept(location: BlobLocation) -> None:
    """The deletion is stopped before each of its steps in turn, and the same content is put meanwhile."""
    contents = [os.urandom(1000) for _ in range(20)]
    overlapped = deleted = 0
    async with location.open() as blobs, location.steps() as steps:
        await asyncio.gather(*(blobs.put(io.BytesIO(content)) for content in contents))
        await asyncio.sleep(APART_SECONDS)
        older_than = datetime.now(UTC) - timedelta(seconds=0.1)
        for before, content in enumerate(contents):
            name = blob_of(content).sha256
            process = await steps.begin("delete", f"{name},{older_than.isoformat()}", before, signal.SIGSTOP)
            if (answer := await steps.answer()) == "0":
                break
            assert answer == "stopped"
            putting = asyncio.create_task(blobs.put(io.BytesIO(content)))
            with_it, _ = await asyncio.wait([putting], timeout=0.3)
            os.kill(process, signal.SIGCONT)
            assert await steps.answer() == "0"
            await asyncio.wait_for(putting, 90)
            assert await content_of(blobs, name) == content
            overlapped += 1
            deleted += not with_it
    assert overlapped > 3
    assert deleted  # at least one put had to wait for the deletion
