"""What the scan at start finds: each unknown file, once and in order."""

import time
from pathlib import Path

import pytest

from ingest_svc.folder_lock import FolderLock
from tests.support.image_files import jpeg, tiff
from tests.support.ingest_harness import IngestHarness, until_checked
from tests.support.waiting import until


def wait_until_settled(*files: Path) -> None:
    """Waits until the files have settled, because a ctime cannot be set. They are then also older than the
    start of a scan, which leaves newer files to the watcher: the file system's clock is coarse."""
    newest = max(file.stat().st_ctime for file in files)
    while time.time() - newest < 0.3:
        time.sleep(0.01)


async def test_files_that_arrived_before_the_start_are_announced_by_capture_time_then_path(
    harness: IngestHarness,
) -> None:
    expected = ["door/z.jpg", "door/a.jpg", "door/c.jpg", "door/deep/b.jpg"]
    noon = 1_767_614_400  # 2026-01-05 12:00:00 UTC
    harness.drop("door/c.jpg", jpeg("c"), mtime=noon + 1_000)
    harness.drop("door/z.jpg", jpeg("z"), mtime=noon + 500)
    harness.drop("door/deep/b.jpg", jpeg("b"), mtime=noon + 1_000)
    harness.drop("door/a.jpg", jpeg("a", exif=tiff("2026:01:05 12:12:30")), mtime=noon + 9_000)
    for index in range(20):
        path = f"door/{index * 7919 % 1000}/{index}.jpg"
        newest = harness.drop(path, jpeg(path), mtime=noon + 2_000 + index)
        expected.append(path)
    wait_until_settled(newest)
    async with harness.running():
        await until(lambda: harness.idle and len(harness.paths) == len(expected))
    assert harness.paths == expected


async def test_files_that_arrive_after_the_scan_began_are_left_to_the_watcher(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until_settled(
        *(harness.drop(f"door/{index}.jpg", jpeg(str(index)), mtime=5_000 + index) for index in range(3))
    )
    clock = FolderLock.clock

    def clock_and_drop(lock: FolderLock) -> int:
        now = clock(lock)
        if not (harness.root / "door" / "early.jpg").exists():
            harness.drop("door/early.jpg", jpeg("early"), mtime=1_000)
        return now

    monkeypatch.setattr(FolderLock, "clock", clock_and_drop)
    async with harness.running():
        await until(lambda: harness.idle and len(harness.paths) == 4)
    assert harness.paths == [*(f"door/{index}.jpg" for index in range(3)), "door/early.jpg"]


async def test_files_that_the_store_knows_are_not_announced_again(harness: IngestHarness) -> None:
    harness.drop("door/known.jpg", jpeg("known"))
    harness.drop("door/rejected.jpg", b"bad")
    harness.drop("door/new.jpg", jpeg("new"))
    harness.known_files.add(harness.root, "door/known.jpg", "door/rejected.jpg")
    async with harness.running():
        await until(lambda: harness.idle)
    assert harness.paths == ["door/new.jpg"]
    assert harness.rejected == {}


async def test_a_known_file_that_changed_is_unknown(harness: IngestHarness) -> None:
    file = harness.drop("door/known.jpg", jpeg("known"))
    harness.known_files.add(harness.root, "door/known.jpg")
    file.write_bytes(jpeg("changed"))
    async with harness.running():
        await until(lambda: harness.idle and harness.paths)
    assert harness.paths == ["door/known.jpg"]


async def test_files_that_arrive_during_the_scan_are_announced_after_the_scanned_ones(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_svc.watching.watch_barrier.WAIT_SECONDS", 90.0)
    wait_until_settled(
        *(harness.drop(f"door/{index}.jpg", jpeg(str(index)), mtime=5_000 + index) for index in range(5))
    )
    harness.known_files.available.clear()
    async with harness.running():
        await until(lambda: harness.known_files.asked)
        harness.drop("door/early.jpg", jpeg("early"), mtime=1_000)
        status = await harness.ingest.worker.caught_up()  # by now the watcher has reported the file
        assert status.settling
        assert status.scanning
        assert not harness.paths
        harness.known_files.available.set()
        await until(lambda: harness.idle and len(harness.paths) == 6)
    assert harness.paths == [*(f"door/{index}.jpg" for index in range(5)), "door/early.jpg"]


async def test_the_store_is_asked_in_pages(harness: IngestHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_svc.watching.folder_scan.PAGE", 10)
    harness.known_files.page = 10
    harness.settings["ingest_settle_seconds"] = 0.001
    paths = [f"door/{index:02}.jpg" for index in range(35)]
    wait_until_settled(*(harness.drop(path, b"x") for path in paths))
    harness.known_files.add(harness.root, *paths)
    async with harness.running():
        await until(lambda: harness.idle)
    assert {file.path for file in harness.known_files.asked} == set(paths)
    assert harness.rejected == {}


async def test_a_file_that_is_being_written_at_start_is_imported_when_it_is_complete(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    (harness.root / "door").mkdir()
    file = harness.root / "door" / "slow.jpg"
    content = jpeg("slow", pixels=b"\x12" * 4000)
    with file.open("wb", buffering=0) as camera:
        camera.write(content[:1000])
        wait_until_settled(file)
        async with harness.running():
            await until(lambda: not harness.ingest.worker.status().scanning)
            assert not harness.idle
            await until_checked(monkeypatch, file)
            assert not harness.idle
            camera.write(content[1000:])
            camera.close()
            await until(lambda: harness.idle and harness.paths)
    assert harness.rejected == {}
    assert harness.bus.media[0].size_bytes == len(content)


async def test_files_with_a_ctime_in_the_future_are_not_lost(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.drop("door/one.jpg", jpeg("one"))
    monkeypatch.setattr(FolderLock, "clock", lambda _: 1_000)
    async with harness.running():
        await until(lambda: harness.idle and harness.paths)
    assert harness.paths == ["door/one.jpg"]


async def test_a_restart_announces_only_what_is_new(harness: IngestHarness) -> None:
    async with harness.running():
        await until(lambda: harness.idle)
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.idle and harness.paths)
    harness.known_files.add(harness.root, "door/one.jpg")
    harness.drop("door/two.jpg", jpeg("two"))
    async with harness.running():
        await until(lambda: harness.idle)
    assert harness.paths == ["door/one.jpg", "door/two.jpg"]


async def test_at_start_the_first_of_two_folders_with_one_slug_is_the_camera(harness: IngestHarness) -> None:
    harness.drop("front door/2.jpg", jpeg("2"))
    harness.drop("Front Door/1.jpg", jpeg("1"))
    async with harness.running():
        await until(lambda: harness.idle and harness.rejected)
    assert harness.paths == ["Front Door/1.jpg"]
    assert harness.rejected == {"front door": "CAMERA_CONFLICT"}
