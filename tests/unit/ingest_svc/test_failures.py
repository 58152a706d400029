"""Failing disks and brokers: nothing is lost, and nothing is announced before it is durable."""

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from ingest_svc import examination
from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.fingerprint import Fingerprint
from ingest_svc.watching.file_events import FileEvent, FileEventType
from mesh.blobs import FileBlobs, SpooledFile
from mesh.blobs.spool import Spool, read_at
from mesh.problems import Unavailable
from tests.support.blobs import content_of
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.waiting import until


class FakeBlobs(FileBlobs):
    """Blobs on a disk that fails, or hangs, or is so slow that the original changes meanwhile.

    `failures` are raised first. Storing waits while `open` is not set; `waiting` counts the blobs that wait.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.failures: list[Exception] = []
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0
        self.before: Callable[[], object] = lambda: None
        self.after: Callable[[], object] = lambda: None

    async def _store(self, spooled: SpooledFile) -> None:
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        if self.failures:
            raise self.failures.pop(0)
        self.before()
        await super()._store(spooled)
        self.after()


@pytest.fixture
async def blobs(harness: IngestHarness) -> FakeBlobs:
    harness.blobs.close()
    harness.blobs = blobs = FakeBlobs(harness.home / "media")
    return blobs


@pytest.mark.parametrize(
    "failure",
    [OSError(errno.ENOSPC, "No space left on device"), Unavailable("away", "BLOBS_UNAVAILABLE")],
    ids=["disk", "blobs"],
)
async def test_a_full_disk_and_an_unavailable_broker_are_retried(
    harness: IngestHarness, blobs: FakeBlobs, failure: Exception
) -> None:
    blobs.failures = [failure] * 2
    harness.bus.failures = [Unavailable("no broker", "BUS_UNAVAILABLE")] * 2
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.idle and harness.paths)
    assert harness.paths == ["door/one.jpg"]
    assert not blobs.failures
    assert not harness.bus.failures


@pytest.mark.parametrize("step", ["spool", "blob"])
async def test_a_full_disk_is_told_until_photos_are_stored_again(
    harness: IngestHarness, blobs: FakeBlobs, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    told = "photos cannot be stored: No space left on device"

    def refuse(spool: Spool) -> FileIO:
        raise full

    async with harness.running():
        with monkeypatch.context() as patched:
            if step == "spool":
                patched.setattr(Spool, "create", refuse)
            else:
                blobs.failures = [full] * 1000
            harness.drop("door/one.jpg", jpeg("one"))
            await until(lambda: harness.ingest.worker.status().problem == told)
            with pytest.raises(Unavailable) as raised:
                await harness.ingest.storage.check()
            assert (raised.value.message, raised.value.reason) == (told, "STORAGE_FAILED")
        blobs.failures = []
        await until(lambda: harness.idle and harness.paths)
        assert harness.ingest.worker.status().problem == ""
        await harness.ingest.storage.check()


async def test_nothing_is_announced_before_its_blob_is_durable(
    harness: IngestHarness, blobs: FakeBlobs
) -> None:
    blobs.open.clear()
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: blobs.waiting == 1)
        harness.drop("yard/bad.jpg", b"bad")
        await until(lambda: harness.rejected)  # the announcer has announced what was ready by now
        assert not harness.paths
        blobs.open.set()
        await until(lambda: harness.paths)


async def test_a_stuck_photo_of_one_camera_does_not_delay_another_camera(
    harness: IngestHarness, blobs: FakeBlobs
) -> None:
    stuck = asyncio.Event()

    async def store(spooled: SpooledFile) -> None:
        if spooled.blob.sha256 == sha256(jpeg("stuck")).hexdigest():
            await stuck.wait()
        await FakeBlobs._store(blobs, spooled)

    blobs._store = store  # type: ignore[method-assign]
    (harness.root / "door").mkdir()
    async with harness.running():
        await until(lambda: harness.idle)
        harness.drop("door/stuck.jpg", jpeg("stuck"))
        harness.drop("door/next.jpg", jpeg("next"))
        harness.drop("yard/one.jpg", jpeg("one"))
        await until(lambda: harness.paths == ["yard/one.jpg"])
        stuck.set()
        await until(lambda: len(harness.paths) == 3)
    assert harness.paths == ["yard/one.jpg", "door/stuck.jpg", "door/next.jpg"]


async def test_a_file_overwritten_while_it_is_stored_is_imported_as_it_is_then(
    harness: IngestHarness, blobs: FakeBlobs
) -> None:
    def overwrite() -> None:
        blobs.before = lambda: None
        (harness.root / "door/latest.jpg").write_bytes(jpeg("second"))

    blobs.before = overwrite
    async with harness.running():
        harness.drop("door/latest.jpg", jpeg("first"))
        await until(lambda: harness.idle and harness.paths)
    (media,) = harness.bus.media
    assert await content_of(blobs, media.sha256) == jpeg("second")


@pytest.mark.parametrize("second", ["second", "second, and longer", ""])
async def test_a_file_overwritten_while_it_is_copied_leaves_no_blob_behind(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    copy, copied = SpooledFile.copy, list[str]()

    def overwriting(spooled: SpooledFile, source: BinaryIO, most: int | None = None) -> None:
        copy(spooled, source, most)
        copied.append(spooled.blob.sha256)
        if len(copied) == 1:
            (harness.root / "door/latest.jpg").write_bytes(jpeg(second))

    monkeypatch.setattr(SpooledFile, "copy", overwriting)
    async with harness.running():
        harness.drop("door/latest.jpg", jpeg("first"))
        await until(lambda: harness.idle and harness.paths)
    assert copied[0] == sha256(jpeg("first")).hexdigest()
    assert [name async for name in harness.blobs.list()] == [sha256(jpeg(second)).hexdigest()]


async def test_a_rejected_file_leaves_no_blob(harness: IngestHarness) -> None:
    async with harness.running():
        harness.drop("door/cut.jpg", jpeg("cut")[:-2])
        await until(lambda: harness.rejected)
    assert harness.rejected == {"door/cut.jpg": "TRUNCATED"}
    assert [name async for name in harness.blobs.list()] == []
    assert list((harness.home / "media" / ".spool").iterdir()) == []


async def test_a_file_that_changes_while_it_is_imported_always_counts(
    harness: IngestHarness, blobs: FakeBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overwrite() -> None:
        blobs.before = lambda: None
        (harness.root / "door/latest.jpg").write_bytes(jpeg("second"))

    (harness.root / "door").mkdir()
    async with harness.running() as ingest:
        await until(lambda: harness.idle)
        blobs.before = overwrite
        # The watcher's events are dropped, so that only the worker itself keeps the file counted.
        monkeypatch.setattr(ingest.worker._watcher.events, "put", lambda _: None)
        harness.drop("door/latest.jpg", jpeg("first"))
        ingest.worker._completion.record("door/latest.jpg", FileEventType.COMPLETE, time.monotonic())
        ingest.worker._watcher.events.wake()
        while not harness.paths:
            assert not harness.idle
            await asyncio.sleep(0)


async def test_an_mtime_that_is_set_after_the_copy_still_counts(
    harness: IngestHarness, blobs: FakeBlobs
) -> None:
    def restamp() -> None:
        blobs.after = lambda: None
        os.utime(harness.root / "door/one.jpg", (1_767_614_400, 1_767_614_400))

    blobs.after = restamp
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.idle and harness.paths)
    (media,) = harness.bus.media
    assert media.captured_at.ToSeconds() == 1_767_614_400


async def test_a_file_that_vanishes_while_it_is_copied_is_no_error(
    harness: IngestHarness, blobs: FakeBlobs
) -> None:
    blobs.before = (harness.root / "door/one.jpg").unlink
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: not harness.idle)
        await until(lambda: harness.idle)
    assert harness.paths == []
    assert harness.rejected == {}


async def test_an_unreadable_file_is_rejected(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("ingest_svc.examination.read_at", denied)
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.rejected)
    assert harness.rejected == {"door/one.jpg": "UNREADABLE"}


async def test_a_file_that_cannot_be_read_for_a_moment_is_taken(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, attempts = examination._open, list[str]()

    def denied_once(path: str, flags: int) -> int:
        attempts.append(path)
        if len(attempts) == 1:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags)

    def examined(*arguments: Any, **options: Any) -> object:
        with monkeypatch.context() as examining:
            examining.setattr(examination, "_open", denied_once)
            return examination.examine(*arguments, **options)

    monkeypatch.setattr("ingest_svc.file_importer.examine", examined)
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.paths == ["door/one.jpg"])
    assert harness.rejected == {}


def put_a_folder_there(file: Path) -> None:
    file.unlink()
    file.mkdir()


def put_a_file_in_the_place_of_its_folder(file: Path) -> None:
    file.parent.rename(file.parent.with_name("aside"))
    file.parent.touch()


def put_a_socket_there(file: Path) -> None:
    file.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        # The path may be too long for a socket's address.
        folder = os.open(file.parent, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{folder}/{file.name}")
        os.close(folder)


@pytest.mark.parametrize(
    "replace", [put_a_folder_there, put_a_file_in_the_place_of_its_folder, put_a_socket_there]
)
async def test_what_is_no_photo_any_more_does_not_hold_up_its_camera(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch, replace: Callable[[Path], None]
) -> None:
    replaced = list[Path]()

    def replacing(root: CamerasRoot, file: Fingerprint, *arguments: Any, **options: Any) -> object:
        if not replaced:
            replaced.append(root / file.path)
            replace(root / file.path)
        return examination.examine(root, file, *arguments, **options)

    monkeypatch.setattr("ingest_svc.file_importer.examine", replacing)
    async with harness.running():
        harness.drop("door/day/one.jpg", jpeg("one"))
        await until(lambda: replaced)
        harness.drop("door/two.jpg", jpeg("two"))
        await until(lambda: "door/two.jpg" in harness.paths)


async def test_an_error_that_is_not_the_files_is_retried(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, failures = read_at, [OSError(errno.EMFILE, "Too many open files")] * 2

    def sometimes(*args: int) -> bytes:
        if failures:
            raise failures.pop()
        return read(*args)

    monkeypatch.setattr("ingest_svc.examination.read_at", sometimes)
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.paths)
    assert harness.rejected == {}


async def test_an_error_of_the_spool_is_retried(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one for which a file would be rejected."""
    create, failures = Spool.create, [OSError(errno.EIO, "Input/output error")] * 2

    def sometimes(spool: Spool) -> FileIO:
        if failures:
            raise failures.pop()
        return create(spool)

    monkeypatch.setattr(Spool, "create", sometimes)
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.paths)
    assert harness.rejected == {}
    assert not failures


async def test_a_stop_before_the_announcement_loses_nothing(harness: IngestHarness) -> None:
    harness.bus.open.clear()
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.ingest.worker.status().unannounced == 1)
    assert harness.paths == []
    harness.bus.open.set()
    async with harness.running():
        await until(lambda: harness.paths == ["door/one.jpg"])


async def test_the_status_is_never_idle_while_something_seen_is_unannounced(harness: IngestHarness) -> None:
    """Checked in every step of the event loop."""
    seen = set[str]()
    async with harness.running() as ingest:
        events = ingest.worker._watcher.events
        put = events.put

        def put_and_remember(event: FileEvent) -> None:
            put(event)
            if isinstance(event.type, FileEventType):
                seen.add(event.path)

        events.put = put_and_remember  # type: ignore[method-assign]
        (harness.root / "door").mkdir()
        deadline = time.monotonic() + 90
        for index in range(1, 61):
            if index % 3:
                harness.drop(f"door{index % 7}/{index}.jpg", jpeg(str(index)))
            else:
                (harness.root / "door" / f"{index}.jpg").write_bytes(jpeg(str(index)))
            while index % 4 == 0 and not (harness.idle and len(set(harness.paths)) == index):
                remembered, idle = set(seen), harness.idle
                assert not idle or remembered <= set(harness.paths)
                assert time.monotonic() < deadline
                await asyncio.sleep(0)
            assert index % 4 or seen <= set(harness.paths)
    assert len(set(harness.paths)) == 60
    assert seen
