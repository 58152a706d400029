"""Files that are imported together: they share the work of threads, and nothing else."""

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ingest_svc import file_importer
from mesh.blobs.spool import SpooledFile, read_at
from mesh.grouped_work import GroupedWork
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.waiting import until


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The paths of each group of files that was read."""
    seen = list[list[str]]()

    class Recorded(GroupedWork[Any, Any]):
        def __init__(self, work: Callable[[Sequence[Any]], Sequence[Any]], *args: Any, **limits: Any) -> None:
            def recorded(items: Sequence[Any]) -> Sequence[Any]:
                if isinstance(items[0], file_importer.CopiedFile):
                    seen.append([item.file.path for item in items])
                return work(items)

            super().__init__(recorded, *args, **limits)

    monkeypatch.setattr(file_importer, "GroupedWork", Recorded)
    return seen


def names(camera: str, count: int) -> list[str]:
    return [f"{camera}/{number}.jpg" for number in range(count)]


async def test_files_that_are_there_are_read_in_one_group(
    harness: IngestHarness, groups: list[list[str]]
) -> None:
    paths = [*names("door", 5), *names("yard", 5)]
    for path in paths:
        harness.drop(path, jpeg(path))
    async with harness.running():
        await until(lambda: len(harness.paths) == len(paths))
    assert [sorted(group) for group in groups] == [sorted(paths)]


async def test_a_large_file_is_read_apart_from_the_others(
    harness: IngestHarness, groups: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_importer, "GROUP_BYTES", 10_000)
    for path in names("door", 5):
        harness.drop(path, jpeg(path, pixels=bytes([0x12]) * (20_000 if path == "door/2.jpg" else 64)))
    async with harness.running():
        await until(lambda: len(harness.paths) == 5)
    small = [path for path in names("door", 5) if path != "door/2.jpg"]
    assert sorted(groups) == sorted([small, ["door/2.jpg"]])
    assert harness.paths == names("door", 5)


async def test_few_large_files_are_in_the_spool_at_once(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are so large that they could fill the disk, and they do not delay other cameras."""
    monkeypatch.setattr(file_importer, "GROUP_BYTES", 10_000)
    large = names("door", file_importer.MAX_LARGE + 2)
    for path in large:
        harness.drop(path, jpeg(path, pixels=b"\x12" * 20_000))
    small = names("yard", 5)
    store, stored, go_on = harness.blobs._store, list[int](), asyncio.Event()

    async def slow(spooled: SpooledFile) -> None:
        stored.append(spooled.blob.size)
        if spooled.blob.size > 10_000:
            await go_on.wait()
        await store(spooled)

    monkeypatch.setattr(harness.blobs, "_store", slow)
    async with harness.running():
        await until(lambda: len([size for size in stored if size > 10_000]) == file_importer.MAX_LARGE)
        for path in small:
            harness.drop(path, jpeg(path))
        await until(lambda: harness.paths == small)
        assert len(list((harness.home / "media" / ".spool").iterdir())) == file_importer.MAX_LARGE
        go_on.set()
        await until(lambda: len(harness.paths) == len(large) + len(small))
    assert harness.paths == [*small, *large]


@pytest.mark.parametrize("error", [errno.EMFILE, errno.EIO], ids=errno.errorcode.get)
async def test_a_file_that_cannot_be_read_fails_alone(
    harness: IngestHarness, groups: list[list[str]], monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """An error that may pass is retried, for this file only; the file itself is rejected for another one."""
    paths = [*names("door", 3), *names("yard", 3)]
    files = [harness.drop(path, jpeg(path)) for path in paths]
    broken = [files[1].stat().st_ino]

    def sometimes(descriptor: int, start: int, length: int) -> bytes:
        if os.fstat(descriptor).st_ino in broken:
            raise OSError(error, os.strerror(error))
        return read_at(descriptor, start, length)

    monkeypatch.setattr("ingest_svc.examination.read_at", sometimes)
    async with harness.running():
        await until(lambda: set(paths[3:]) <= set(harness.paths))
        assert "door/1.jpg" not in harness.paths
        broken.clear()
        await until(lambda: harness.idle)
    rejected = error == errno.EIO
    assert harness.rejected == ({"door/1.jpg": "UNREADABLE"} if rejected else {})
    in_order = [path for path in paths[:3] if not (rejected and path == "door/1.jpg")]
    assert [path for path in harness.paths if path.startswith("door")] == in_order
    assert len(groups[0]) == len(paths)
    assert {path for group in groups[1:] for path in group} <= {"door/1.jpg"}


async def test_a_blob_that_cannot_be_stored_fails_alone(
    harness: IngestHarness, groups: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [*names("door", 3), *names("yard", 3)]
    for path in paths:
        harness.drop(path, jpeg(path, pixels=b"\x12" * (65 if path == "door/1.jpg" else 64)))
    fsync, broken = os.fsync, [len(jpeg("door/1.jpg")) + 1]

    def sometimes(descriptor: int) -> None:
        if os.fstat(descriptor).st_size in broken:
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sometimes)
    async with harness.running():
        await until(lambda: {*paths[3:], "door/0.jpg"} <= set(harness.paths))
        assert len(harness.paths) == 4
        broken.clear()
        await until(lambda: harness.idle)
    assert [path for path in harness.paths if path.startswith("door")] == paths[:3]
    assert harness.rejected == {}
    assert len(groups[0]) == len(paths)
