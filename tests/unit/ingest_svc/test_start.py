"""What is found at start: once, in order, and only what nobody knows."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ingest_svc.lock import Lock, locked
from ingest_svc.writers import open_for_writing
from mesh.problems import Conflict
from tests.support.waiting import until
from tests.unit.ingest_svc.house import House
from tests.unit.ingest_svc.photos import jpeg, tiff


def age(*files: Path) -> None:
    """Waits until the files have settled: their ctime cannot be set."""
    newest = max(file.stat().st_ctime for file in files)
    while time.time() - newest < 0.3:
        time.sleep(0.01)


async def test_what_came_while_it_was_down_is_announced_in_capture_order_then_path(house: House) -> None:
    expected = ["door/z.jpg", "door/a.jpg", "door/c.jpg", "door/deep/b.jpg"]
    house.drop("door/c.jpg", jpeg("c"), mtime=1_000)
    house.drop("door/z.jpg", jpeg("z"), mtime=500)
    house.drop("door/deep/b.jpg", jpeg("b"), mtime=1_000)
    house.drop("door/a.jpg", jpeg("a", exif=tiff("1970:01:01 00:12:30")), mtime=9_000)
    for index in range(20):
        path = f"door/{index * 7919 % 1000}/{index}.jpg"
        house.drop(path, jpeg(path), mtime=2_000 + index)
        expected.append(path)
    async with house.running():
        await until(lambda: house.idle and len(house.paths) == len(expected))
    assert house.paths == expected


async def test_what_came_after_the_watch_began_is_the_watchs_even_if_it_is_listed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):
        house.drop(f"door/{index}.jpg", jpeg(str(index)), mtime=5_000 + index)
    clock = Lock.clock

    def clock_and_drop(lock: Lock) -> int:
        now = clock(lock)
        if not (house.root / "door" / "early.jpg").exists():
            house.drop("door/early.jpg", jpeg("early"), mtime=1_000)
        return now

    monkeypatch.setattr(Lock, "clock", clock_and_drop)
    async with house.running():
        await until(lambda: house.idle and len(house.paths) == 4)
    assert house.paths == [*(f"door/{index}.jpg" for index in range(3)), "door/early.jpg"]


async def test_what_the_store_knows_is_not_announced_again(house: House) -> None:
    house.drop("door/known.jpg", jpeg("known"))
    house.drop("door/refused.jpg", b"bad")
    house.drop("door/new.jpg", jpeg("new"))
    house.store.knows(house.root, "door/known.jpg", "door/refused.jpg")
    async with house.running():
        await until(lambda: house.idle)
    assert house.paths == ["door/new.jpg"]
    assert house.refused == {}


async def test_a_known_file_that_changed_is_unknown(house: House) -> None:
    file = house.drop("door/known.jpg", jpeg("known"))
    house.store.knows(house.root, "door/known.jpg")
    file.write_bytes(jpeg("changed"))
    async with house.running():
        await until(lambda: house.idle and house.paths)
    assert house.paths == ["door/known.jpg"]


async def test_what_comes_while_it_scans_waits_for_what_was_there(house: House) -> None:
    for index in range(5):
        house.drop(f"door/{index}.jpg", jpeg(str(index)), mtime=5_000 + index)
    house.store.up.clear()
    async with house.running():
        await until(lambda: house.store.asked)
        house.drop("door/early.jpg", jpeg("early"), mtime=1_000)
        await asyncio.sleep(0.3)
        assert not house.paths
        assert house.ingest.worker.status().scanning
        house.store.up.set()
        await until(lambda: house.idle and len(house.paths) == 6)
    assert house.paths == [*(f"door/{index}.jpg" for index in range(5)), "door/early.jpg"]


async def test_the_store_is_asked_in_pages(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_svc.scan.PAGE", 10)
    house.store.page = 10
    house.settings["ingest_settle_seconds"] = 0.001
    paths = [f"door/{index:02}.jpg" for index in range(35)]
    for path in paths:
        house.drop(path, b"x")
    house.store.knows(house.root, *paths)
    async with house.running():
        await until(lambda: house.idle)
    assert {file.path for file in house.store.asked} == set(paths)
    assert house.refused == {}


async def test_a_file_still_being_written_at_start_is_taken_when_it_is_whole(house: House) -> None:
    (house.root / "door").mkdir()
    file = house.root / "door" / "slow.jpg"
    content = jpeg("slow", pixels=b"\x12" * 4000)
    with file.open("wb", buffering=0) as camera:
        camera.write(content[:1000])
        age(file)
        async with house.running():
            await until(lambda: not house.ingest.worker.status().scanning)
            assert not house.idle
            await asyncio.sleep(0.5)
            camera.write(content[1000:])
            camera.close()
            await until(lambda: house.idle and house.paths)
    assert house.refused == {}
    assert house.bus.media[0].size_bytes == len(content)


async def test_files_from_a_future_that_the_clock_was_set_back_from_are_not_lost(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.drop("door/one.jpg", jpeg("one"))
    monkeypatch.setattr(Lock, "clock", lambda _: 1_000)
    async with house.running():
        await until(lambda: house.idle and house.paths)
    assert house.paths == ["door/one.jpg"]


async def test_a_restart_announces_only_what_is_new(house: House) -> None:
    async with house.running():
        await until(lambda: house.idle)
        house.drop("door/one.jpg", jpeg("one"))
        await until(lambda: house.idle and house.paths)
    house.store.knows(house.root, "door/one.jpg")
    house.drop("door/two.jpg", jpeg("two"))
    async with house.running():
        await until(lambda: house.idle)
    assert house.paths == ["door/one.jpg", "door/two.jpg"]


async def test_two_slugs_at_start_go_to_the_first_by_name(house: House) -> None:
    house.drop("front door/2.jpg", jpeg("2"))
    house.drop("Front Door/1.jpg", jpeg("1"))
    async with house.running():
        await until(lambda: house.idle and house.refused)
    assert house.paths == ["Front Door/1.jpg"]
    assert house.refused == {"front door": "CAMERA_CONFLICT"}


async def test_only_one_ingest_has_a_cameras_folder(house: House) -> None:
    async with locked(house.root):
        with pytest.raises(Conflict) as refused:
            async with locked(house.root, patience=0.1):
                pass
    assert refused.value.reason == "INGEST_RUNNING"
    async with locked(house.root, patience=0):
        pass


async def test_a_killed_process_leaves_no_lock(house: House) -> None:
    code = (
        "import asyncio, sys, pathlib\n"
        "from ingest_svc.lock import Lock, locked\n"
        "async def main():\n"
        "    async with locked(pathlib.Path(sys.argv[1])):\n"
        "        print('held', flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(house.root)],
        stdout=subprocess.PIPE,
        cwd=root,
        env=os.environ | {"PYTHONPATH": f"{root}:{root / 'proto/gen'}"},
    )
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == b"held\n"
    with pytest.raises(Conflict):
        async with locked(house.root, patience=0):
            pass
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.wait)
    process.stdout.close()
    async with locked(house.root):
        pass


def test_a_writer_is_seen_and_a_reader_is_none(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb"):
        assert open_for_writing(file)
    assert not open_for_writing(file)
    with file.open("rb"):
        assert not open_for_writing(file)
    assert not open_for_writing(tmp_path / "none")
