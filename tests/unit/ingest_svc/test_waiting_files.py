"""A backlog beside live photos, on a real file system. The detector is as fast as the test says."""

import pytest

from ingest_svc.turns import MAX_UNDETECTED, MIN_UNDETECTED
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.waiting import until

OLD = 1_767_614_400.0
# The fake bus puts "ab" and "ba" into one partition, and "b" into another.
BUSY, SAME, OTHER = "ab", "ba", "b"


@pytest.fixture(autouse=True)
def fast_detection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the limit of a partition counts."""
    monkeypatch.setattr("ingest_svc.turns.MIN_WINDOW", 1000)


def drop(harness: IngestHarness, camera: str, count: int, *, fresh: bool = False) -> list[str]:
    paths = [f"{camera}/{number:04}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        newest = harness.drop(path, jpeg(path), None if fresh else OLD + number).stat().st_ctime_ns
    # The file system's clock is coarse. Files that are as new as a scan's beginning are not part of it.
    while clock(harness) <= newest:
        pass
    return paths


def clock(harness: IngestHarness) -> int:
    """The file system's."""
    probe = harness.home / "probe"
    probe.touch()
    return probe.stat().st_ctime_ns


def of(harness: IngestHarness, camera: str) -> list[str]:
    return [path for path in harness.paths if path.startswith(f"{camera}/")]


async def test_live_photos_do_not_wait_for_a_backlog_that_is_not_detected(harness: IngestHarness) -> None:
    files = drop(harness, BUSY, 300)
    harness.bus.detected = lambda partition, announced: 0
    async with harness.running():
        await until(lambda: len(harness.paths) >= MAX_UNDETECTED)
        assert not harness.idle
        for camera in (SAME, OTHER, BUSY):
            harness.drop(f"{camera}/live.jpg", jpeg(f"live {camera}"))
        await until(lambda: {f"{c}/live.jpg" for c in (SAME, OTHER, BUSY)} <= set(harness.paths))
        assert len(of(harness, BUSY)) == MAX_UNDETECTED + 1
        assert harness.ingest.worker.status().unannounced == 300 - MAX_UNDETECTED
        harness.bus.detected = lambda partition, announced: announced
        await until(lambda: harness.idle)
    assert [path for path in of(harness, BUSY) if path != f"{BUSY}/live.jpg"] == files
    assert harness.bus.backlog == files
    assert len(harness.paths) == 303


async def test_never_more_of_a_partition_is_announced_and_not_detected(harness: IngestHarness) -> None:
    """The detector handles one photo in every answer, and the limit holds for both cameras together."""
    drop(harness, BUSY, 90)
    drop(harness, SAME, 90)
    detected = 0
    most = 0

    def one_more(partition: int, announced: int) -> int:
        nonlocal detected, most
        if partition != harness.bus.partition_of(BUSY):
            return announced
        most = max(most, announced - detected)
        detected = min(detected + 8, announced)
        return detected

    harness.bus.detected = one_more
    async with harness.running():
        await until(lambda: harness.idle)
    assert len(harness.paths) == 180
    assert most == MAX_UNDETECTED


async def test_two_cameras_of_one_partition_take_turns(harness: IngestHarness) -> None:
    drop(harness, BUSY, 100)
    drop(harness, SAME, 100)
    harness.bus.detected = lambda partition, announced: 0
    async with harness.running():
        await until(lambda: len(harness.paths) == MAX_UNDETECTED)
    assert len(of(harness, BUSY)) == len(of(harness, SAME)) == MAX_UNDETECTED / 2


async def test_photos_that_are_copied_in_while_it_runs_are_a_backlog_in_their_order(
    harness: IngestHarness,
) -> None:
    harness.bus.detected = lambda partition, announced: 0
    async with harness.running():
        await until(lambda: harness.idle)
        files = drop(harness, BUSY, 300, fresh=True)
        await until(lambda: len(harness.paths) >= MAX_UNDETECTED)
        harness.drop(f"{SAME}/live.jpg", jpeg("live"))
        await until(lambda: f"{SAME}/live.jpg" in harness.paths)
        assert len(of(harness, BUSY)) < 300
        harness.bus.detected = lambda partition, announced: announced
        await until(lambda: harness.idle)
    assert of(harness, BUSY) == files


async def test_a_short_backlog_is_not_overtaken(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart, and though what waits has to wait for a turn."""
    monkeypatch.setattr("ingest_svc.waiting_files.ORDER_SECONDS", 60.0)
    files = drop(harness, BUSY, MAX_UNDETECTED + 20)
    asked = 0

    def at_the_third_question(partition: int, announced: int) -> int:
        nonlocal asked
        asked += partition == 0
        return announced if asked > 2 else 0

    harness.bus.detected = at_the_third_question
    async with harness.running():
        await until(lambda: harness.paths)
        live = [f"{BUSY}/live-{number}.jpg" for number in range(5)]
        for path in live:
            harness.drop(path, jpeg(path))
        await until(lambda: harness.idle)
    assert harness.paths == files + live


async def test_live_photos_are_announced_while_nothing_is_detected(harness: IngestHarness) -> None:
    """Their camera takes more than may wait of a backlog, over a while."""
    harness.bus.detected = lambda partition, announced: 0
    drop(harness, BUSY, 100)
    async with harness.running():
        await until(lambda: len(harness.paths) >= MAX_UNDETECTED)
        for number in range(MAX_UNDETECTED + 20):
            path = f"{SAME}/{number}.jpg"
            harness.ingest.worker._backlog._live_photos._sources.clear()  # as if a while had passed
            harness.drop(path, jpeg(path))
            await until(lambda path=path: path in harness.paths)  # type: ignore[misc]
    assert len(of(harness, BUSY)) == MAX_UNDETECTED


async def test_nothing_of_a_backlog_is_announced_while_the_progress_is_unknown(
    harness: IngestHarness,
) -> None:
    files = drop(harness, BUSY, 3)
    harness.bus.progress_failures = 2
    async with harness.running():
        await until(lambda: harness.idle)
    assert harness.bus.progress_failures == 0
    assert harness.paths == files


async def test_a_file_that_changes_or_goes_while_it_waits_is_announced_as_it_is_in_the_end(
    harness: IngestHarness,
) -> None:
    files = drop(harness, BUSY, 100)
    harness.bus.detected = lambda partition, announced: 0
    async with harness.running():
        await until(lambda: len(harness.paths) == MAX_UNDETECTED)
        harness.drop(files[90], jpeg("another"), OLD + 500)
        (harness.root / files[91]).unlink()
        harness.bus.detected = lambda partition, announced: announced
        await until(lambda: harness.idle)
    assert sorted(harness.paths) == sorted({*files} - {files[91]})
    (changed,) = [media for media in harness.bus.media if media.file.path == files[90]]
    assert changed.captured_at.seconds == OLD + 500


async def test_a_disabled_cameras_backlog_waits_until_it_is_enabled(harness: IngestHarness) -> None:
    files = drop(harness, BUSY, 100)
    harness.bus.detected = lambda partition, announced: 0
    async with harness.running():
        await until(lambda: len(harness.paths) == MAX_UNDETECTED)
        harness.cameras.configure(BUSY, enabled=False)
        harness.bus.detected = lambda partition, announced: announced
        await until(lambda: harness.idle)
        assert len(harness.paths) == MAX_UNDETECTED
        harness.cameras.configure(BUSY)
        await until(lambda: len(harness.paths) == 100)
    assert harness.paths == files


async def test_files_that_are_rejected_unseen_do_not_delay_live_photos(harness: IngestHarness) -> None:
    for number in range(300):
        harness.drop(f"stray-{number}.jpg", jpeg(str(number)), OLD)
    harness.bus.detected = lambda partition, announced: 0
    async with harness.running():
        harness.drop(f"{OTHER}/live.jpg", jpeg("live"))
        await until(lambda: harness.idle and len(harness.rejected) == 300)
    assert harness.paths == [f"{OTHER}/live.jpg"]


async def test_a_partition_that_is_stuck_does_not_stop_the_others(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_svc.turns.MIN_WINDOW", 16)
    drop(harness, BUSY, 100)
    files = drop(harness, OTHER, 100)
    stuck = harness.bus.partition_of(BUSY)
    harness.bus.detected = lambda partition, announced: 0 if partition == stuck else announced
    async with harness.running():
        await until(lambda: of(harness, OTHER) == files)
    assert MIN_UNDETECTED <= len(of(harness, BUSY)) <= MAX_UNDETECTED
