"""How much of the backlog is announced before it is detected, and what counts as live."""

from collections import Counter

import pytest

from ingest_svc.fingerprint import Fingerprint
from ingest_svc.live_photos import BURST, BURST_OF_ALL, OVERTAKING, RATE, RATE_OF_ALL, LivePhotos
from ingest_svc.turns import (
    MAX_IMPORTED,
    MAX_PAUSE,
    MAX_UNDETECTED,
    MIN_PAUSE,
    MIN_UNDETECTED,
    MIN_WINDOW,
    UNDETECTED_SECONDS,
    USUAL_PAUSE,
    PartitionProgress,
    Turns,
)
from ingest_svc.waiting_files import ORDER_SECONDS, HeldPhotos, WaitingFile, WaitingFiles
from mesh.problems import Denied, Unavailable

PARTITIONS = {"door": 0, "yard": 0, "gate": 1}
FRESH, OLD = ("door", False), ("door", True)


class Log:
    """Announced and detected records by partition."""

    def __init__(self) -> None:
        self.announced, self.detected = Counter({0: 1000, 1: 1000}), Counter({0: 1000, 1: 1000})
        self.gathered = Counter[int]()  # detected and not published
        self.failure: Exception | None = None

    async def progress(self) -> dict[int, PartitionProgress]:
        if self.failure:
            raise self.failure
        return {
            at: PartitionProgress(self.detected[at], self.detected[at] - self.gathered[at], end)
            for at, end in self.announced.items()
        }


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def turns(log: Log) -> Turns:
    return Turns(log.progress, PARTITIONS.__getitem__)


def announce(turns: Turns, log: Log, camera: str) -> int:
    """Announces as many files as have a turn."""
    count = 0
    while turns.free(camera):
        end = turns.begin(camera)
        log.announced[PARTITIONS[camera]] += 1
        end()
        count += 1
    return count


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the limit of a partition counts."""
    monkeypatch.setattr("ingest_svc.turns.MIN_WINDOW", 10_000)
    monkeypatch.setattr("ingest_svc.turns.BUSY_SECONDS", 10**9)


async def test_nothing_has_a_turn_before_the_progress_is_known(turns: Turns, log: Log) -> None:
    assert not turns.free("door")
    log.failure = Unavailable("no broker", "BUS_UNAVAILABLE")
    await turns.refresh(0.0)
    assert not turns.free("door")
    log.failure = None
    await turns.refresh(10.0)
    assert turns.free("door")
    log.failure = Unavailable("no broker", "BUS_UNAVAILABLE")
    await turns.refresh(20.0)
    assert not turns.free("door")


async def test_a_refusal_is_raised(turns: Turns, log: Log) -> None:
    log.failure = Denied("no", "BUS_DENIED")
    with pytest.raises(Denied):
        await turns.refresh(0.0)


@pytest.mark.usefixtures("wide")
async def test_a_partition_has_at_most_so_many_undetected_records(turns: Turns, log: Log) -> None:
    await turns.refresh(0.0)
    assert announce(turns, log, "door") == MAX_UNDETECTED
    assert not turns.free("yard")  # of the same partition
    assert turns.free("gate")
    await turns.refresh(10.0)
    assert not turns.free("door")
    log.detected[0] += 3
    await turns.refresh(20.0)
    assert announce(turns, log, "yard") == 3


async def test_of_clips_that_take_long_few_have_a_turn_at_a_time(turns: Turns, log: Log) -> None:
    """A live photo waits for all that are announced."""
    await turns.refresh(0.0)
    assert announce(turns, log, "door") == MIN_WINDOW
    now = 0.0
    for _ in range(MIN_WINDOW):
        await turns.refresh(now := now + 10)
        log.detected[0] += 1  # a clip in 10 s
    await turns.refresh(now := now + 10)
    log.announced[0] = log.detected[0]
    await turns.refresh(now := now + 0.1)
    assert announce(turns, log, "door") == MIN_UNDETECTED
    for _ in range(5):  # photos again
        await turns.refresh(now := now + 0.5)
        log.detected[0] = log.announced[0]
        await turns.refresh(now := now + 0.5)
        announce(turns, log, "door")
    assert log.announced[0] - log.detected[0] >= MIN_WINDOW


@pytest.mark.usefixtures("wide")
async def test_records_of_others_count(turns: Turns, log: Log) -> None:
    await turns.refresh(0.0)
    log.announced[0] += MAX_UNDETECTED - 2
    await turns.refresh(10.0)
    assert announce(turns, log, "door") == 2


@pytest.mark.usefixtures("wide")
async def test_files_that_are_imported_while_the_question_is_asked_are_counted(
    turns: Turns, log: Log
) -> None:
    await turns.refresh(0.0)
    ends = [turns.begin("door") for _ in range(10)]
    await turns.refresh(10.0)  # they are not in the log yet
    assert announce(turns, log, "door") == MAX_UNDETECTED - 10
    for end in ends:
        log.announced[0] += 1
        end()
    await turns.refresh(20.0)
    assert not turns.free("door")


async def test_all_partitions_together_have_as_many_as_are_detected_in_a_second_or_so(
    turns: Turns, log: Log
) -> None:
    await turns.refresh(0.0)
    assert announce(turns, log, "door") == MIN_WINDOW
    assert announce(turns, log, "gate") == MIN_UNDETECTED
    log.detected |= log.announced
    await turns.refresh(0.5)
    log.announced[0] += 49
    log.detected[0] += 48
    await turns.refresh(2.0)
    speed = (48 + MIN_WINDOW + MIN_UNDETECTED) / 2.0
    assert announce(turns, log, "door") == round(speed * UNDETECTED_SECONDS) - 1


async def test_more_have_a_turn_each_time_that_all_were_detected(turns: Turns, log: Log) -> None:
    await turns.refresh(0.0)
    for time, expected in ((0.2, MIN_WINDOW), (0.4, 2 * MIN_WINDOW), (0.6, MAX_UNDETECTED)):
        assert announce(turns, log, "door") == expected
        log.detected |= log.announced
        await turns.refresh(time)


@pytest.mark.usefixtures("wide")
async def test_a_partition_has_no_more_until_its_detections_are_published(turns: Turns, log: Log) -> None:
    log.announced[0] += 40
    log.detected[0] += 40
    log.gathered[0] = 40
    await turns.refresh(0.0)
    assert announce(turns, log, "door") == MAX_UNDETECTED - 40
    assert announce(turns, log, "gate") == MAX_UNDETECTED


async def test_a_partition_that_does_not_move_does_not_stop_the_others(turns: Turns, log: Log) -> None:
    log.announced[0] += 5000
    await turns.refresh(0.0)
    assert not turns.free("door")
    assert announce(turns, log, "gate") == MIN_UNDETECTED


async def test_the_question_is_asked_less_often_while_nothing_is_detected(turns: Turns, log: Log) -> None:
    log.announced[0] += 1
    now, pauses = 0.0, list[float]()
    while now < 30.0:
        await turns.refresh(now)
        pauses.append(turns.pause(now))
        now += pauses[-1]
    assert pauses[0] == USUAL_PAUSE
    assert pauses[-1] == MAX_PAUSE
    log.detected[0] += 1
    log.announced[0] += 1
    await turns.refresh(now)
    assert turns.pause(now) == pytest.approx(USUAL_PAUSE)


@pytest.mark.parametrize(("speed", "pause"), [(5.0, USUAL_PAUSE), (100.0, 0.16), (10_000.0, MIN_PAUSE)])
async def test_the_question_is_asked_again_before_what_may_be_undetected_is_detected(
    turns: Turns, log: Log, speed: float, pause: float
) -> None:
    log.announced[0] += 10**9
    for step in range(10):
        now = step * 0.5
        log.detected[0] = round(now * speed)
        await turns.refresh(now)
    assert turns.pause(now) == pytest.approx(pause, rel=0.01)


@pytest.mark.usefixtures("wide")
async def test_only_some_files_are_imported_at_a_time(turns: Turns, log: Log) -> None:
    await turns.refresh(0.0)
    ends = [turns.begin("door") for _ in range(MAX_IMPORTED - 1)] + [turns.begin(None)]
    assert not turns.free("gate")
    assert not turns.may_import
    ends[-1]()
    assert turns.may_import
    assert turns.free("gate")


def arrivals(photos: LivePhotos, count: int, now: float, source: tuple[str, bool] = FRESH) -> int:
    """How many of `count` photos that arrive at once are live."""
    live = 0
    for _ in range(count):
        live += photos.arrived(source, live < count and live >= BURST, now)
    return live


def test_a_burst_is_live_and_a_flood_is_not() -> None:
    photos = LivePhotos()
    assert arrivals(photos, 500, 0.0) == BURST
    # Whoever follows at once belongs to it, and must not overtake it.
    assert not photos.arrived(FRESH, True, 0.5)
    assert photos.arrived(FRESH, True, 0.5 + (OVERTAKING + 1) / RATE)


def test_a_camera_may_take_photos_steadily() -> None:
    photos = LivePhotos()
    assert all(photos.arrived(FRESH, False, number / RATE) for number in range(1000))


def test_each_camera_counts_for_itself_and_old_files_apart() -> None:
    photos = LivePhotos()
    arrivals(photos, 500, 0.0, OLD)
    assert photos.arrived(FRESH, False, 0.0)
    assert photos.arrived(("yard", True), False, 0.0)
    assert not photos.arrived(OLD, True, 0.0)


def test_many_cameras_together_have_a_burst_that_is_bounded() -> None:
    photos = LivePhotos()
    of_each = [arrivals(photos, 500, 0.0, (f"camera-{number}", False)) for number in range(12)]
    assert of_each[0] == BURST
    assert sum(of_each) == BURST_OF_ALL
    assert not photos.arrived(FRESH, False, 0.0)
    assert photos.arrived(("another", False), False, 1 / RATE_OF_ALL)


def test_what_arrives_after_a_flood_belongs_to_it_at_first() -> None:
    photos = LivePhotos()
    photos.flooded(FRESH, 1.0)
    assert not photos.arrived(FRESH, True, 2.0)
    assert photos.arrived(("door", True), False, 2.0)
    assert photos.arrived(FRESH, True, 10.0)


def test_a_clock_that_stands_still_gives_no_tokens() -> None:
    photos = LivePhotos()
    arrivals(photos, 500, 100.0)
    assert not photos.arrived(FRESH, True, 100.0)


def test_a_live_photo_waits_a_moment_for_the_files_of_its_own_camera() -> None:
    held, waits = HeldPhotos(), {"door"}
    for number, path in enumerate(("door/1", "door/2", "yard/1")):
        held.add(path[:4], waiting(path), number / 10)
    assert [photo.file.path for photo in held.take(waits.__contains__, 0.2)] == ["yard/1"]
    assert held.pause(0.2) == pytest.approx(ORDER_SECONDS - 0.2)
    assert [photo.file.path for photo in held.take(waits.__contains__, ORDER_SECONDS)] == ["door/1"]
    assert held.any_of("door")
    waits.clear()
    assert [photo.file.path for photo in held.take(waits.__contains__, ORDER_SECONDS)] == ["door/2"]
    assert (len(held), held.pause(9.0), held.any_of("door")) == (0, None, False)


def waiting(path: str, size: int = 1) -> WaitingFile:
    return WaitingFile(Fingerprint(path, size), 0.0)


def drained(backlog: WaitingFiles, *folders: str) -> list[str]:
    """The paths that leave, if only these folders are allowed; any folder if none is given."""
    paths = []
    while taken := backlog.take(lambda folder: not folders or folder in folders):
        paths.append(taken.file.path)
    return paths


def test_sources_take_turns_and_each_keeps_its_order() -> None:
    backlog = WaitingFiles()
    for path in ("door/1", "door/2", "door/3", "yard/1", "yard/2"):
        backlog.add((path[:4], True), waiting(path))
    assert len(backlog) == 5
    assert drained(backlog) == ["door/1", "yard/1", "door/2", "yard/2", "door/3"]
    assert len(backlog) == 0
    assert not backlog.waits(("door", True))


def test_a_folder_without_a_turn_is_passed_over() -> None:
    backlog = WaitingFiles()
    for path in ("door/1", "door/2", "yard/1"):
        backlog.add((path[:4], True), waiting(path))
    assert drained(backlog, "yard") == ["yard/1"]
    assert backlog.waits(("door", True))
    assert drained(backlog) == ["door/1", "door/2"]


def test_a_file_that_waits_already_keeps_its_place_in_its_new_state() -> None:
    backlog = WaitingFiles()
    for path in ("door/1", "door/2"):
        backlog.add(OLD, waiting(path))
    backlog.add(OLD, waiting("door/1", size=2))
    assert len(backlog) == 2
    first = backlog.take(lambda _: True)
    assert first is not None
    assert (first.file.path, first.file.size) == ("door/1", 2)


def test_a_full_backlog_has_its_folders_scanned_again() -> None:
    backlog = WaitingFiles(max_waiting=2)
    for path in ("door/1", "door/2", "door/3", "yard/1"):
        backlog.add((path[:4], True), waiting(path))
    assert len(backlog) == 2
    assert backlog.take_forgotten() == []
    assert drained(backlog) == ["door/1", "door/2"]
    assert backlog.take_forgotten() == ["door", "yard"]
    assert backlog.take_forgotten() == []
