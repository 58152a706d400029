"""Blobs in a folder: what is particular to it. tests/contract/test_blobs.py has what all blobs must do."""

import asyncio
import fcntl
import hashlib
import io
import os
import stat
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pytest

from mesh.blobs import Blob, FileBlobs, open_blobs
from mesh.blobs import files as module
from mesh.config import load_config
from mesh.problems import Conflict, Invalid, Unavailable
from tests.support.blobs import content_of
from tests.support.waiting import until

CONTENT = b"a photo" * 100_000
NAME = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
async def blobs(tmp_path: Path) -> AsyncIterator[FileBlobs]:
    opened = FileBlobs(tmp_path / "media")
    yield opened
    opened.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(CONTENT)
    return path


def of_one_shelf(count: int) -> list[bytes]:
    numbers = (str(number).encode() for number in range(10_000))
    return [n for n in numbers if hashlib.sha256(n).hexdigest().startswith("ab")][:count]


async def test_what_a_killed_process_put_is_made_durable(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been killed right after the renaming."""
    synced: list[Path] = []
    monkeypatch.setattr(module, "sync_folder", synced.append)
    for _ in range(2):
        blobs = FileBlobs(tmp_path / "media")
        await blobs.put(source)
        await blobs.put(source)
        blobs.close()
    shelf = tmp_path / "media" / NAME[:2]
    assert [{*synced[:2]}, synced[2], {*synced[3:5]}, synced[5]] == [{shelf, shelf.parent}, shelf] * 2
    assert len(synced) == 6


async def test_puts_at_once_share_the_flushing_and_fail_one_by_one(
    blobs: FileBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = of_one_shelf(6)
    bad = hashlib.sha256(others[2]).hexdigest()
    steps: list[str] = []
    committing, go_on = threading.Event(), threading.Event()
    fsync, rename = os.fsync, os.rename

    def flush(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            committing.set()
            assert go_on.wait(90)
            steps.append("content")
        fsync(descriptor)

    def name(here: str, there: Path) -> None:
        if there.name == bad:
            raise OSError("this one cannot be named")
        steps.append("name")
        rename(here, there)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "rename", name)
    monkeypatch.setattr(module, "sync_folder", lambda folder: steps.append(folder.name))
    puts = [asyncio.create_task(blobs.put(io.BytesIO(first)))]
    await asyncio.to_thread(committing.wait, 90)
    puts += [asyncio.create_task(blobs.put(io.BytesIO(content))) for content in others]
    await until(lambda: len(blobs._commits._waiting) == 5)
    assert not steps  # and nobody is told that it is durable
    assert not any(put.done() for put in puts)
    go_on.set()
    outcome = await asyncio.gather(*puts, return_exceptions=True)
    assert steps[:2] == ["content", "name"]
    assert {*steps[2:4]} == {"ab", "media"}
    assert steps[4:] == [*["content"] * 5, *["name"] * 4, "ab"]
    assert [str(result) for result in outcome if isinstance(result, Exception)] == [
        "this one cannot be named"
    ]
    assert isinstance(outcome[3], OSError)
    assert len([name async for name in blobs.list()]) == 5
    assert list((tmp_path / "media" / ".spool").iterdir()) == []


async def test_of_folders_that_cannot_be_flushed_nothing_is_durable(
    blobs: FileBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(folder: Path) -> None:
        raise OSError(f"{folder.name} fails")

    monkeypatch.setattr(module, "sync_folder", fails)
    for _ in range(2):
        with pytest.raises(OSError, match="ab fails"):
            await blobs.put(io.BytesIO(of_one_shelf(1)[0]))


async def test_a_folder_by_url(tmp_path: Path) -> None:
    blobs = await open_blobs(load_config(blobs_url=f"file://{tmp_path}/a%20b"))
    name = (await blobs.put(io.BytesIO(CONTENT))).sha256
    assert (tmp_path / "a b" / name[:2] / name).read_bytes() == CONTENT
    blobs.close()


async def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Invalid, match=rf"LARES_BLOBS_URL: cannot create {tmp_path}/file/x: Not a directory"):
        await open_blobs(load_config(blobs_url=f"file://{tmp_path}/file/x"))


@pytest.mark.parametrize("shared", [CONTENT, b"another photo", CONTENT + b"!"])
async def test_of_a_file_whose_extents_are_shared_the_copy_counts(
    blobs: FileBlobs, source: Path, monkeypatch: pytest.MonkeyPatch, shared: bytes
) -> None:
    """`shared` is what the file holds by the time that its extents are shared."""
    monkeypatch.setattr(
        "mesh.blobs.spool.fcntl.ioctl", lambda target, *_: os.write(target, shared) and os.lseek(target, 0, 0)
    )
    if shared != CONTENT:
        with pytest.raises(Conflict):
            await blobs.put(source, Blob(NAME, len(CONTENT)))
        assert [name async for name in blobs.list()] == []
    blob = await blobs.put(source)
    assert blob == Blob(hashlib.sha256(shared).hexdigest(), len(shared))
    assert await content_of(blobs, blob.sha256) == shared


async def test_a_file_that_outgrew_what_is_wanted_of_it_is_not_shared(
    blobs: FileBlobs, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.blobs.spool.fcntl.ioctl", lambda *_: pytest.fail("shared"))
    async with blobs.spooled() as spooled:
        with source.open("rb") as stream:
            await asyncio.to_thread(spooled.copy, stream, 1000)
        assert spooled.blob.size == 1000


async def test_whoever_leaves_while_a_thread_still_copies_leaves_nothing(
    blobs: FileBlobs, tmp_path: Path
) -> None:
    reading, go_on = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            reading.set()
            assert go_on.wait(90)
            return super().readinto(buffer)

    putting = asyncio.create_task(blobs.put(Slow(CONTENT)))
    await asyncio.to_thread(reading.wait, 90)
    spool = tmp_path / "media" / ".spool"
    assert len(list(spool.iterdir())) == 1
    putting.cancel()
    await asyncio.wait([putting])
    assert len(list(spool.iterdir())) == 1  # the thread has it
    go_on.set()
    await until(lambda: not list(spool.iterdir()))


async def test_where_files_cannot_be_locked_nothing_is_deleted(
    blobs: FileBlobs, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(file: BinaryIO, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    await blobs.put(source)
    with pytest.raises(Unavailable) as problem:
        await blobs.delete(NAME, datetime.now(UTC))
    assert problem.value.reason == "NO_LOCKS"
    assert await content_of(blobs, NAME) == CONTENT


async def test_a_deletion_waits_for_a_put_of_the_same_shelf(
    blobs: FileBlobs, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The put has not yet given its name when the deletion begins: it looks at the time under the lock."""
    await blobs.put(source)
    os.utime(blobs._path(NAME), (1, 1))
    naming, go_on, rename = threading.Event(), threading.Event(), os.rename

    def slow(here: str, there: Path) -> None:
        naming.set()
        assert go_on.wait(90)
        rename(here, there)

    monkeypatch.setattr(os, "rename", slow)
    putting = asyncio.create_task(blobs.put(source))
    await asyncio.to_thread(naming.wait, 90)
    other = FileBlobs(blobs._folder)
    deleting = asyncio.create_task(other.delete(NAME, datetime.fromtimestamp(1000, UTC)))
    done, _ = await asyncio.wait([deleting], timeout=0.2)
    assert not done
    go_on.set()
    await putting
    assert await deleting is False
    other.close()
    assert await content_of(blobs, NAME) == CONTENT


async def test_a_folder_that_went_is_no_missing_blob(blobs: FileBlobs, source: Path) -> None:
    """As when its disk is not mounted."""
    await blobs.put(source)
    folder = blobs._folder
    aside = folder.rename(folder.with_name("aside"))

    async def hold() -> None:
        async with blobs.local(NAME):
            pass

    for work in (blobs.size(NAME), hold(), content_of(blobs, NAME), blobs.check(), anext(blobs.list())):
        with pytest.raises(Unavailable) as problem:
            await work
        assert problem.value.reason == "BLOBS_UNAVAILABLE"
    aside.rename(folder)
    await blobs.check()
    assert await content_of(blobs, NAME) == CONTENT


async def test_the_time_of_a_blob_is_that_of_its_storing(blobs: FileBlobs, tmp_path: Path) -> None:
    """However long it lay in the spool, as a slow upload does."""
    async with blobs.spooled() as spooled:
        await asyncio.to_thread(spooled.write, CONTENT)
        (file,) = (tmp_path / "media" / ".spool").iterdir()
        os.utime(file, (1, 1))
        await spooled.store()
    assert await blobs.delete(NAME, datetime.fromtimestamp(1000, UTC)) is False
