"""What is found at start: once, in order, and only what nobody knows."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ingest_svc.folder_lock import FolderLock, lock_folder
from ingest_svc.watching.open_files import open_for_writing
from mesh.problems import Conflict
from tests.support.image_files import jpeg, tiff
from tests.support.ingest_harness import IngestHarness
from tests.support.waiting import until


def age(*files: Path) -> None:
    """Waits until the files have settled: their ctime cannot be set."""
    newest = max(file.stat().st_ctime for file in files)
    while time.time() - newest < 0.3:
        time.sleep(0.01)


async def test_what_came_while_it_was_down_is_announced_in_capture_order_then_path(
    harness: IngestHarness,
) -> None:
    expected = ["door/z.jpg", "door/a.jpg", "door/c.jpg", "door/deep/b.jpg"]
    harness.drop("door/c.jpg", jpeg("c"), mtime=1_000)
    harness.drop("door/z.jpg", jpeg("z"), mtime=500)
    harness.drop("door/deep/b.jpg", jpeg("b"), mtime=1_000)
    harness.drop("door/a.jpg", jpeg("a", exif=tiff("1970:01:01 00:12:30")), mtime=9_000)
    for index in range(20):
        path = f"door/{index * 7919 % 1000}/{index}.jpg"
        harness.drop(path, jpeg(path), mtime=2_000 + index)
        expected.append(path)
    async with harness.running():
        await until(lambda: harness.idle and len(harness.paths) == len(expected))
    assert harness.paths == expected


async def test_what_came_after_the_watch_began_is_the_watchs_even_if_it_is_listed(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):
        harness.drop(f"door/{index}.jpg", jpeg(str(index)), mtime=5_000 + index)
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


async def test_what_the_store_knows_is_not_announced_again(harness: IngestHarness) -> None:
    harness.drop("door/known.jpg", jpeg("known"))
    harness.drop("door/refused.jpg", b"bad")
    harness.drop("door/new.jpg", jpeg("new"))
    harness.store.knows(harness.root, "door/known.jpg", "door/refused.jpg")
    async with harness.running():
        await until(lambda: harness.idle)
    assert harness.paths == ["door/new.jpg"]
    assert harness.refused == {}


async def test_a_known_file_that_changed_is_unknown(harness: IngestHarness) -> None:
    file = harness.drop("door/known.jpg", jpeg("known"))
    harness.store.knows(harness.root, "door/known.jpg")
    file.write_bytes(jpeg("changed"))
    async with harness.running():
        await until(lambda: harness.idle and harness.paths)
    assert harness.paths == ["door/known.jpg"]


async def test_what_comes_while_it_scans_waits_for_what_was_there(harness: IngestHarness) -> None:
    for index in range(5):
        harness.drop(f"door/{index}.jpg", jpeg(str(index)), mtime=5_000 + index)
    harness.store.up.clear()
    async with harness.running():
        await until(lambda: harness.store.asked)
        harness.drop("door/early.jpg", jpeg("early"), mtime=1_000)
        await asyncio.sleep(0.3)
        assert not harness.paths
        assert harness.ingest.worker.status().scanning
        harness.store.up.set()
        await until(lambda: harness.idle and len(harness.paths) == 6)
    assert harness.paths == [*(f"door/{index}.jpg" for index in range(5)), "door/early.jpg"]


async def test_the_store_is_asked_in_pages(harness: IngestHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_svc.watching.folder_scan.PAGE", 10)
    harness.store.page = 10
    harness.settings["ingest_settle_seconds"] = 0.001
    paths = [f"door/{index:02}.jpg" for index in range(35)]
    for path in paths:
        harness.drop(path, b"x")
    harness.store.knows(harness.root, *paths)
    async with harness.running():
        await until(lambda: harness.idle)
    assert {file.path for file in harness.store.asked} == set(paths)
    assert harness.refused == {}


async def test_a_file_still_being_written_at_start_is_taken_when_it_is_whole(harness: IngestHarness) -> None:
    (harness.root / "door").mkdir()
    file = harness.root / "door" / "slow.jpg"
    content = jpeg("slow", pixels=b"\x12" * 4000)
    with file.open("wb", buffering=0) as camera:
        camera.write(content[:1000])
        age(file)
        async with harness.running():
            await until(lambda: not harness.ingest.worker.status().scanning)
            assert not harness.idle
            await asyncio.sleep(0.5)
            camera.write(content[1000:])
            camera.close()
            await until(lambda: harness.idle and harness.paths)
    assert harness.refused == {}
    assert harness.bus.media[0].size_bytes == len(content)


async def test_files_from_a_future_that_the_clock_was_set_back_from_are_not_lost(
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
    harness.store.knows(harness.root, "door/one.jpg")
    harness.drop("door/two.jpg", jpeg("two"))
    async with harness.running():
        await until(lambda: harness.idle)
    assert harness.paths == ["door/one.jpg", "door/two.jpg"]


async def test_two_slugs_at_start_go_to_the_first_by_name(harness: IngestHarness) -> None:
    harness.drop("front door/2.jpg", jpeg("2"))
    harness.drop("Front Door/1.jpg", jpeg("1"))
    async with harness.running():
        await until(lambda: harness.idle and harness.refused)
    assert harness.paths == ["Front Door/1.jpg"]
    assert harness.refused == {"front door": "CAMERA_CONFLICT"}


async def test_only_one_ingest_has_a_cameras_folder(harness: IngestHarness) -> None:
    async with lock_folder(harness.root):
        with pytest.raises(Conflict) as refused:
            async with lock_folder(harness.root, patience=0.1):
                pass
    assert refused.value.reason == "INGEST_RUNNING"
    async with lock_folder(harness.root, patience=0):
        pass


async def test_a_killed_process_leaves_no_lock(harness: IngestHarness) -> None:
    code = (
        "import asyncio, sys, pathlib\n"
        "from ingest_svc.folder_lock import FolderLock, lock_folder\n"
        "async def main():\n"
        "    async with lock_folder(pathlib.Path(sys.argv[1])):\n"
        "        print('held', flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(harness.root)],
        stdout=subprocess.PIPE,
        cwd=root,
        env=os.environ | {"PYTHONPATH": f"{root}:{root / 'proto/gen'}"},
    )
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == b"held\n"
    with pytest.raises(Conflict):
        async with lock_folder(harness.root, patience=0):
            pass
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.wait)
    process.stdout.close()
    async with lock_folder(harness.root):
        pass


def test_a_writer_is_seen_and_a_reader_is_none(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb"):
        assert open_for_writing(file)
    assert not open_for_writing(file)
    with file.open("rb"):
        assert not open_for_writing(file)
    assert not open_for_writing(tmp_path / "none")
