"""What the watch tells, when it lags behind, and what becomes of what it never told."""

import asyncio
import shutil
import threading

import pytest
from watchdog.observers.api import EventQueue
from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent, WatchDescriptor

from ingest_svc.service import composed
from ingest_svc.sightings import FolderSign
from mesh.problems import Unavailable
from tests.support.waiting import until
from tests.unit.ingest_svc.house import House
from tests.unit.ingest_svc.photos import jpeg


async def test_polling_finds_new_changed_and_nested_files(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.settings |= {"ingest_polling": True, "ingest_poll_seconds": 0.05}
    async with house.running():
        await until(lambda: house.idle)
        (house.root / "door" / "deep").mkdir(parents=True)
        (house.root / "door" / "deep" / "one.jpg").write_bytes(jpeg("one"))
        house.drop("door/two.jpg", jpeg("two"))
        (house.root / "loop").symlink_to(house.root)
        await until(lambda: len(house.paths) == 2)
        (house.root / "door" / "two.jpg").write_bytes(jpeg("two, changed"))
        (house.root / "door" / "empty.jpg").touch()
        await until(lambda: len(house.paths) == 3 and house.refused and house.idle)
    assert house.refused == {"door/empty.jpg": "ZERO_BYTE"}


async def test_the_status_counts_what_happened_before_it_was_asked(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_svc.fence.WAIT_SECONDS", 90.0)
    (house.root / "door").mkdir()
    async with house.running() as ingest:
        await until(lambda: house.idle)
        house.bus.open.clear()
        for index in range(50):
            house.drop(f"door/{index}.jpg", jpeg(str(index)))
            status = await ingest.worker.caught_up()
            assert status.settling + status.unannounced == index + 1
        house.bus.open.set()
        await until(lambda: len(house.paths) == 50)
        await asyncio.gather(*(ingest.worker.caught_up() for _ in range(20)))
    assert {file.name for file in house.root.iterdir()} == {"door", ".lares.lock"}


async def test_the_status_is_never_idle_while_the_watch_lags_behind(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late its threads are: what a photo's event waits behind is no word of the photo."""
    (house.root / "door").mkdir()
    async with house.running() as ingest:
        await until(lambda: house.idle)
        observer, fence = ingest.worker._watch.observer, ingest.worker._watch.fence
        dispatch, passed = observer.dispatch_events, fence.passed
        steps, passes = threading.Semaphore(0), list[str]()

        def one_step(events: EventQueue) -> None:
            steps.acquire()
            dispatch(events)

        def noted(name: str) -> None:
            passed(name)
            passes.append(name)

        monkeypatch.setattr(observer, "dispatch_events", one_step)
        monkeypatch.setattr(fence, "passed", noted)
        (house.root / ".one").touch()  # its first event frees the thread that waits in the plain method
        monkeypatch.setattr("ingest_svc.fence.WAIT_SECONDS", 0.01)
        assert (await ingest.worker.caught_up()).scanning
        house.drop("door/one.jpg", jpeg("one"))
        monkeypatch.setattr("ingest_svc.fence.WAIT_SECONDS", 90.0)
        asking = asyncio.create_task(ingest.worker.caught_up())
        await until(fence._one_at_a_time.locked)
        while not passes:  # that of the first question
            steps.release()
            await asyncio.sleep(0.01)
        await asyncio.to_thread(lambda: None)
        assert not asking.done()
        steps.release(1000)
        status = await asking
        assert (status.scanning, status.settling + status.unannounced + len(house.paths)) == (False, 1)
        await until(lambda: house.idle and house.paths)


async def test_a_new_folder_is_looked_through_for_what_nobody_saw(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    (house.root / "door").mkdir()
    async with house.running() as ingest:
        await until(lambda: house.idle)
        sightings = ingest.worker._watch.sightings
        put = sightings.put
        monkeypatch.setattr(sightings, "put", lambda s: put(s) if isinstance(s.sign, FolderSign) else None)
        house.drop("door/deep/one.jpg", jpeg("one"))
        await until(lambda: house.paths == ["door/deep/one.jpg"])


async def test_lost_events_lead_to_a_look_at_everything(house: House) -> None:
    (house.root / "door").mkdir()
    async with house.running() as ingest:
        await until(lambda: house.idle)
        sightings = ingest.worker._watch.sightings
        sightings._most = 0  # every event overflows
        house.drop("door/one.jpg", jpeg("one"))
        await until(lambda: house.paths == ["door/one.jpg"])


async def test_an_overflow_of_the_kernels_queue_leads_to_a_look_at_everything(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    (house.root / "door").mkdir()
    async with house.running() as ingest:
        await until(lambda: house.idle)
        watch = ingest.worker._watch
        with monkeypatch.context() as dropping:
            dropping.setattr(watch.sightings, "put", lambda _: None)
            house.drop("door/one.jpg", jpeg("one"))
            (house.root / "new").mkdir()
            house.drop("new/two.jpg", jpeg("two"))
            await asyncio.sleep(0.2)
            assert not house.paths
        overflow = InotifyEvent(WatchDescriptor(-1), InotifyConstants.IN_Q_OVERFLOW, 0, b"")
        watch.observer._inotify.handle_event(overflow)  # type: ignore[attr-defined]
        await until(lambda: sorted(house.paths) == ["door/one.jpg", "new/two.jpg"])
        house.drop("new/three.jpg", jpeg("three"))
        await until(lambda: len(house.paths) == 3)


@pytest.mark.parametrize("polling", [False, True])
async def test_a_cameras_folder_that_goes_away_is_noticed(
    house: House, polling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_svc.worker.CHECK_SECONDS", 0.1)
    house.settings |= {"ingest_polling": polling, "ingest_poll_seconds": 0.05}
    async with composed(house.config(), house.cameras, house.store, house.blobs, house.bus) as ingest:
        announcing = asyncio.create_task(ingest.announcer.run())
        working = asyncio.create_task(ingest.worker.run())
        await until(lambda: not ingest.worker.status().scanning)
        shutil.rmtree(house.root)
        with pytest.raises(Unavailable, match="no longer watched"):
            await asyncio.wait_for(working, 90)
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)
