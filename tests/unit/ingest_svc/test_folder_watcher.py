"""What the watcher reports, what the status says while it lags behind, and how lost events are made up
for."""

import asyncio
import os
import shutil
import threading

import pytest

from ingest_svc.leases import Lease
from ingest_svc.watching.file_events import FolderEventType
from ingest_svc.watching.folder_poll import pause_after
from ingest_svc.watching.native_watch import NativeWatch
from ingest_svc.watching.watchdog_inotify import OVERFLOW, InotifyEvent
from mesh.lease_clock import lease_time
from mesh.problems import Internal
from mesh.rpc import GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.waiting import until


async def test_polling_finds_new_changed_and_nested_files(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.settings |= {"ingest_polling": True, "ingest_poll_seconds": 0.05}
    async with harness.running():
        await until(lambda: harness.idle)
        (harness.root / "door" / "deep").mkdir(parents=True)
        (harness.root / "door" / "deep" / "one.jpg").write_bytes(jpeg("one"))
        harness.drop("door/two.jpg", jpeg("two"))
        (harness.root / "loop").symlink_to(harness.root)
        await until(lambda: len(harness.paths) == 2)
        (harness.root / "door" / "two.jpg").write_bytes(jpeg("two, changed"))
        (harness.root / "door" / "empty.jpg").touch()
        await until(lambda: len(harness.paths) == 3 and harness.rejected and harness.idle)
    assert harness.rejected == {"door/empty.jpg": "ZERO_BYTE"}


async def test_polling_finds_a_file_that_has_the_size_and_the_mtime_of_the_one_before(
    harness: IngestHarness,
) -> None:
    harness.settings |= {"ingest_polling": True, "ingest_poll_seconds": 0.05}
    file = harness.drop("door/one.jpg", jpeg("one"))
    async with harness.running():
        await until(lambda: harness.idle and harness.paths)
        before = file.stat()
        file.write_bytes(jpeg("two"))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = file.stat()
        assert (before.st_size, before.st_mtime_ns, before.st_ino) == (
            after.st_size,
            after.st_mtime_ns,
            after.st_ino,
        )
        await until(lambda: len({media.sha256 for media in harness.bus.media}) == 2)


async def test_polling_finds_a_file_in_the_place_of_a_folder(harness: IngestHarness) -> None:
    """Many file systems give it the inode of that folder, too."""
    harness.settings |= {"ingest_polling": True, "ingest_poll_seconds": 0.05}
    for index in range(10):
        (harness.root / "door" / f"{index}.jpg").mkdir(parents=True)
    async with harness.running():
        await until(lambda: harness.idle)
        for index in range(10):
            (harness.root / "door" / f"{index}.jpg").rmdir()
            (harness.root / "door" / f"{index}.jpg").write_bytes(jpeg(str(index)))
        await until(lambda: len(harness.paths) == 10)


async def test_the_status_counts_what_happened_before_it_was_asked(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_svc.watching.watch_barrier.WAIT_SECONDS", 90.0)
    (harness.root / "door").mkdir()
    async with harness.running() as ingest:
        await until(lambda: harness.idle)
        harness.bus.open.clear()
        for index in range(50):
            harness.drop(f"door/{index}.jpg", jpeg(str(index)))
            status = await ingest.worker.caught_up()
            assert status.settling + status.unannounced == index + 1
        harness.bus.open.set()
        await until(lambda: len(harness.paths) == 50)
        await asyncio.gather(*(ingest.worker.caught_up() for _ in range(20)))
    assert {file.name for file in harness.root.iterdir()} == {"door", ".lares.lock"}


async def test_the_status_is_never_idle_while_the_watcher_lags_behind(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late the watcher's threads are: the barrier of an earlier question does not answer a later
    one."""
    (harness.root / "door").mkdir()
    async with harness.running() as ingest:
        await until(lambda: harness.idle)
        watch, barrier = ingest.worker._watcher.watch, ingest.worker._watcher.barrier
        assert isinstance(watch, NativeWatch)
        handle, reached = watch._handle, barrier.reached
        steps, passes = threading.Semaphore(0), list[str]()

        def one_step(event: InotifyEvent) -> None:
            steps.acquire()
            handle(event)

        def reached_and_noted(name: str) -> None:
            reached(name)
            passes.append(name)

        monkeypatch.setattr(watch, "_handle", one_step)
        monkeypatch.setattr(barrier, "reached", reached_and_noted)
        monkeypatch.setattr("ingest_svc.watching.watch_barrier.WAIT_SECONDS", 0.01)
        assert (await ingest.worker.caught_up()).scanning
        harness.drop("door/one.jpg", jpeg("one"))
        monkeypatch.setattr("ingest_svc.watching.watch_barrier.WAIT_SECONDS", 90.0)
        asking = asyncio.create_task(ingest.worker.caught_up())
        await until(barrier._one_at_a_time.locked)
        while not passes:  # until the barrier of the first question is reached
            steps.release()
            await asyncio.sleep(0.01)
        await asyncio.to_thread(lambda: None)
        assert not asking.done()
        steps.release(1000)
        status = await asking
        assert (status.scanning, status.settling + status.unannounced + len(harness.paths)) == (False, 1)
        await until(lambda: harness.idle and harness.paths)


async def test_a_new_folder_is_listed_for_files_without_events(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    (harness.root / "door").mkdir()
    async with harness.running() as ingest:
        await until(lambda: harness.idle)
        events = ingest.worker._watcher.events
        put = events.put
        monkeypatch.setattr(events, "put", lambda e: put(e) if isinstance(e.type, FolderEventType) else None)
        harness.drop("door/deep/one.jpg", jpeg("one"))
        await until(lambda: harness.paths == ["door/deep/one.jpg"])


async def test_lost_events_lead_to_a_full_scan(harness: IngestHarness) -> None:
    (harness.root / "door").mkdir()
    async with harness.running() as ingest:
        await until(lambda: harness.idle)
        events = ingest.worker._watcher.events
        events._max_events = 0  # every event overflows
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.paths == ["door/one.jpg"])


async def test_an_overflow_of_the_kernels_queue_leads_to_a_full_scan(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_svc.watching.watch_barrier.WAIT_SECONDS", 90.0)
    (harness.root / "door").mkdir()
    async with harness.running() as ingest:
        await until(lambda: harness.idle)
        watcher = ingest.worker._watcher
        with monkeypatch.context() as dropping:
            dropping.setattr(watcher.events, "put", lambda _: None)
            harness.drop("door/one.jpg", jpeg("one"))
            (harness.root / "new").mkdir()
            harness.drop("new/two.jpg", jpeg("two"))
            assert not (await ingest.worker.caught_up()).scanning  # the watcher has reported the files
            assert not harness.paths
        assert isinstance(watcher.watch, NativeWatch)
        watcher.watch._inotify._inotify.handle_event(OVERFLOW)
        await until(lambda: sorted(harness.paths) == ["door/one.jpg", "new/two.jpg"])
        harness.drop("new/three.jpg", jpeg("three"))
        await until(lambda: len(harness.paths) == 3)


async def test_events_that_the_watcher_is_too_slow_for_lead_to_a_full_scan(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    (harness.root / "door").mkdir()
    async with harness.running() as ingest:
        await until(lambda: harness.idle)
        watch = ingest.worker._watcher.watch
        assert isinstance(watch, NativeWatch)
        steps, handle, handled = threading.Semaphore(0), watch._handle, list[InotifyEvent]()

        def one_step(event: InotifyEvent) -> None:
            steps.acquire()
            handled.append(event)
            handle(event)

        monkeypatch.setattr(watch, "_handle", one_step)
        monkeypatch.setattr("ingest_svc.watching.watchdog_inotify.MAX_WAITING_EVENTS", 3)
        for index in range(20):
            harness.drop(f"door/{index}.jpg", jpeg(str(index)))
        shutil.copytree(harness.root / "door", harness.root / "new" / "deep")
        await until(lambda: watch._inotify._lost)
        steps.release(1000)
        await until(lambda: len(set(harness.paths)) == 40)
        assert OVERFLOW in handled
        monkeypatch.setattr("ingest_svc.watching.watchdog_inotify.MAX_WAITING_EVENTS", 1000)
        harness.drop("new/deep/last.jpg", jpeg("last"))
        await until(lambda: "new/deep/last.jpg" in harness.paths)


async def test_ingest_fails_when_the_thread_that_reads_the_events_has_ended(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_svc.watching.native_watch.LOOK_SECONDS", 0.1)
    lease = Lease(1, 10**6, lease_time())
    async with (
        harness.composed(GrpcServer(CallInterceptor).channel()) as composed,
        composed.duty.watching(lease) as ingest,
    ):
        announcing = asyncio.create_task(ingest.announcer.run())
        working = asyncio.create_task(ingest.worker.run())
        await until(lambda: not ingest.worker.status().scanning)
        watch = ingest.worker._watcher.watch
        assert isinstance(watch, NativeWatch)
        watch._inotify.close()
        with pytest.raises(Internal, match="no longer watched"):
            await asyncio.wait_for(working, 90)
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)


def test_polls_that_take_long_are_made_less_often() -> None:
    assert pause_after(0.01, 1.0) == 1.0
    assert pause_after(2.0, 1.0) == 8.0
