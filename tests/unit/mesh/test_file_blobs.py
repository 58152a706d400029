"""Blobs in a folder. tests/contract/test_blobs.py has what all blobs must do."""

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
from mesh.file_lock import lock
from mesh.problems import Conflict, Internal, Invalid, NotFound, Problem, Unavailable
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


def in_one_subfolder(count: int) -> list[bytes]:
    numbers = (str(number).encode() for number in range(10_000))
    return [n for n in numbers if hashlib.sha256(n).hexdigest().startswith("ab")][:count]


async def test_folders_of_an_earlier_process_are_flushed_again(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier process may have been killed between the rename and the flush."""
    synced: list[Path] = []
    monkeypatch.setattr(module, "sync_folder", synced.append)
    for _ in range(2):
        blobs = FileBlobs(tmp_path / "media")
        await blobs.put(source)
        await blobs.put(source)
        blobs.close()
    subfolder = tmp_path / "media" / NAME[:2]
    assert [{*synced[:2]}, synced[2], {*synced[3:5]}, synced[5]] == [
        {subfolder, subfolder.parent},
        subfolder,
    ] * 2
    assert len(synced) == 6


async def test_concurrent_puts_share_flushes_and_fail_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMMITS", 1)
    blobs = FileBlobs(tmp_path / "media")
    first, *others = in_one_subfolder(6)
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
            raise OSError("this file cannot be renamed")
        steps.append("name")
        rename(here, there)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "rename", name)
    monkeypatch.setattr(module, "sync_folder", lambda folder: steps.append(folder.name))
    puts = [asyncio.create_task(blobs.put(io.BytesIO(first)))]
    await asyncio.to_thread(committing.wait, 90)
    puts += [asyncio.create_task(blobs.put(io.BytesIO(content))) for content in others]
    await until(lambda: len(blobs._commits._waiting) == 5)
    assert not steps
    assert not any(put.done() for put in puts)
    go_on.set()
    outcome = await asyncio.gather(*puts, return_exceptions=True)
    assert steps[:2] == ["content", "name"]
    assert {*steps[2:4]} == {"ab", "media"}
    assert steps[4:] == [*["content"] * 5, *["name"] * 4, "ab"]
    assert [str(result) for result in outcome if isinstance(result, Exception)] == [
        "this file cannot be renamed"
    ]
    assert isinstance(outcome[3], OSError)
    assert len([name async for name in blobs.list()]) == 5
    assert list((tmp_path / "media" / ".spool").iterdir()) == []
    blobs.close()


@pytest.mark.parametrize("step", ["posix_fadvise", "fsync"])
async def test_content_that_cannot_be_flushed_fails_alone_and_gets_no_name(
    blobs: FileBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    original, spool = getattr(os, step), tmp_path / "media" / ".spool"
    bad = list[int]()

    def sometimes(descriptor: int, *arguments: int) -> None:
        if os.fstat(descriptor).st_ino in bad:
            raise OSError("this content cannot be written")
        original(descriptor, *arguments)

    monkeypatch.setattr(os, step, sometimes)
    contents = in_one_subfolder(3)
    async with blobs.spooled() as first, blobs.spooled() as second, blobs.spooled() as third:
        for spooled, content in zip((first, second, third), contents, strict=True):
            known = set(spool.iterdir()) if spool.exists() else set[Path]()
            await asyncio.to_thread(spooled.write, content)
            if spooled is second:
                bad += [file.stat().st_ino for file in set(spool.iterdir()) - known]
        outcome = await asyncio.gather(
            *(spooled.store() for spooled in (first, second, third)), return_exceptions=True
        )
    assert [isinstance(result, OSError) for result in outcome] == [False, True, False]
    stored = sorted(hashlib.sha256(content).hexdigest() for content in (contents[0], contents[2]))
    assert sorted([name async for name in blobs.list()]) == stored
    assert list(spool.iterdir()) == []


async def test_a_subfolder_that_was_removed_is_made_again(blobs: FileBlobs) -> None:
    first, second, third = in_one_subfolder(3)
    name = (await blobs.put(io.BytesIO(first))).sha256
    (blobs._folder / "ab" / name).unlink()
    (blobs._folder / "ab").rmdir()
    with pytest.raises(FileNotFoundError):
        await blobs.put(io.BytesIO(second))
    await blobs.put(io.BytesIO(third))


async def test_a_put_fails_if_its_folder_cannot_be_flushed(
    blobs: FileBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(folder: Path) -> None:
        raise OSError(f"{folder.name} fails")

    monkeypatch.setattr(module, "sync_folder", fails)
    for _ in range(2):
        with pytest.raises(OSError, match="ab fails"):
            await blobs.put(io.BytesIO(in_one_subfolder(1)[0]))


async def test_a_folder_can_be_given_as_a_url(tmp_path: Path) -> None:
    blobs = await open_blobs(load_config(blobs_url=f"file://{tmp_path}/a%20b"))
    name = (await blobs.put(io.BytesIO(CONTENT))).sha256
    assert (tmp_path / "a b" / name[:2] / name).read_bytes() == CONTENT
    blobs.close()


async def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Invalid, match=rf"LARES_BLOBS_URL: cannot create {tmp_path}/file/x: Not a directory"):
        await open_blobs(load_config(blobs_url=f"file://{tmp_path}/file/x"))


@pytest.mark.parametrize("shared", [CONTENT, b"another photo", CONTENT + b"!"])
async def test_a_clone_is_named_by_its_own_content(
    blobs: FileBlobs, source: Path, monkeypatch: pytest.MonkeyPatch, shared: bytes
) -> None:
    """`shared` is the content of the source at the time of the clone."""
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


async def test_a_file_that_is_larger_than_requested_is_not_cloned(
    blobs: FileBlobs, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.blobs.spool.fcntl.ioctl", lambda *_: pytest.fail("cloned"))
    async with blobs.spooled() as spooled:
        with source.open("rb") as stream:
            await asyncio.to_thread(spooled.copy, stream, 1000)
        assert spooled.blob.size == 1000


async def test_a_put_that_is_cancelled_while_a_thread_copies_leaves_nothing(
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
    assert len(list(spool.iterdir())) == 1  # the thread still uses it
    go_on.set()
    await until(lambda: not list(spool.iterdir()))


async def test_nothing_is_deleted_on_a_file_system_without_locks(
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


async def test_a_deletion_waits_for_a_put_into_the_same_subfolder(
    blobs: FileBlobs, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The put has not renamed its file when the deletion begins, which checks the time under the lock."""
    await blobs.put(source)
    os.utime(blobs._path(NAME), (1, 1))
    renaming, locking, go_on = threading.Event(), threading.Event(), threading.Event()
    rename, order = os.rename, list[str]()

    def slow_rename(here: str, there: Path) -> None:
        renaming.set()
        assert go_on.wait(90)
        rename(here, there)
        order.append("renamed")

    def recorded_lock(file: BinaryIO, *, shared: bool = False) -> None:
        if not shared:
            locking.set()
        lock(file, shared=shared)
        if not shared:
            order.append("locked")

    monkeypatch.setattr(os, "rename", slow_rename)
    monkeypatch.setattr(module, "lock", recorded_lock)
    putting = asyncio.create_task(blobs.put(source))
    await asyncio.to_thread(renaming.wait, 90)
    other = FileBlobs(blobs._folder)
    deleting = asyncio.create_task(other.delete(NAME, datetime.fromtimestamp(1000, UTC)))
    await asyncio.to_thread(locking.wait, 90)
    go_on.set()
    await putting
    assert await deleting is False
    assert order == ["renamed", "locked"]
    other.close()
    assert await content_of(blobs, NAME) == CONTENT


async def test_blobs_of_a_missing_folder_are_unavailable(blobs: FileBlobs, source: Path) -> None:
    """As if the disk is not mounted."""
    await blobs.put(source)
    folder = blobs._folder
    aside = folder.rename(folder.with_name("aside"))

    async def hold() -> None:
        async with blobs.local(NAME) as path:
            path.read_bytes()

    for work in (blobs.size(NAME), hold(), content_of(blobs, NAME), blobs.check(), anext(blobs.list())):
        with pytest.raises(Unavailable) as problem:
            await work
        assert problem.value.reason == "BLOBS_UNAVAILABLE"
    aside.rename(folder)
    await blobs.check()
    assert await content_of(blobs, NAME) == CONTENT


async def test_what_fails_with_a_blob_that_is_there_stays_as_it_is(blobs: FileBlobs, source: Path) -> None:
    await blobs.put(source)
    with pytest.raises(Conflict, match="not the blob's fault"):
        async with blobs.local(NAME):
            raise Conflict("not the blob's fault", "OTHER")


@pytest.mark.parametrize(
    ("there", "raised", "expected"),
    [
        ("nothing", Internal("a child could not read it", "CHILD_FAILED"), Unavailable),
        ("folder", Internal("a child could not read it", "CHILD_FAILED"), NotFound),
        ("blob", Internal("a child could not read it", "CHILD_FAILED"), Internal),
        ("blob", Invalid("half a photo", "TRUNCATED"), Invalid),
        # The folder was away, and is back.
        ("blob", Invalid("gone", "BLOB_NOT_FOUND"), Unavailable),
        ("blob", NotFound("gone", "BLOB_NOT_FOUND"), Unavailable),
        ("blob", FileNotFoundError(), Unavailable),
    ],
)
async def test_who_fails_to_read_a_blob_learns_whether_it_is_there(
    blobs: FileBlobs, source: Path, there: str, raised: Exception, expected: type[Problem]
) -> None:
    """A photo at fault is given up at once, one whose content is gone soon, none while the disk is away."""
    await blobs.put(source)
    if there == "nothing":
        blobs._folder.rename(blobs._folder.with_name("aside"))
    with pytest.raises(expected):
        async with blobs.local(NAME) as path:
            if there == "folder":
                path.unlink()
            raise raised


async def test_the_time_of_a_blob_is_when_it_was_stored(blobs: FileBlobs, tmp_path: Path) -> None:
    """A slow upload may have been in the spool for long."""
    async with blobs.spooled() as spooled:
        await asyncio.to_thread(spooled.write, CONTENT)
        (file,) = (tmp_path / "media" / ".spool").iterdir()
        os.utime(file, (1, 1))
        await spooled.store()
    assert await blobs.delete(NAME, datetime.fromtimestamp(1000, UTC)) is False
