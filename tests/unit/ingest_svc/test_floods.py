"""Very many files at once, on a real file system: to check and to sort them takes long, and live photos of
other cameras do not wait for it."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingest_svc.file_backlog import MANY, Backlog, few_and_many
from ingest_svc.fingerprint import Fingerprint
from ingest_svc.turns import PartitionProgress, Turns
from ingest_svc.waiting_files import WaitingFile
from ingest_svc.watching.completion import CompletionTracker
from ingest_svc.watching.folder_scan import FolderScan
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.waiting import until

OLD = 1_767_614_400
COUNT = MANY + 100
FLOODED, OTHER = "flooded", "other"


class Sorting:
    """Sorting of more than MANY files begins, and waits while `may_end` is not set."""

    def __init__(self) -> None:
        self.began, self.may_end = 0, asyncio.Event()


@pytest.fixture
async def sorting(monkeypatch: pytest.MonkeyPatch) -> Sorting:
    sorting, in_capture_order = Sorting(), FolderScan.in_capture_order

    async def slow(scan: FolderScan, files: Iterable[Fingerprint]) -> list[Fingerprint]:
        if len(listed := list(files)) > MANY:
            sorting.began += 1
            await sorting.may_end.wait()
        return await in_capture_order(scan, listed)

    monkeypatch.setattr(FolderScan, "in_capture_order", slow)
    return sorting


@pytest.fixture(params=["native", "polling"])
def either(request: pytest.FixtureRequest, harness: IngestHarness) -> IngestHarness:
    harness.settings |= {"ingest_polling": request.param == "polling", "ingest_poll_seconds": 0.1}
    return harness


@pytest.fixture(autouse=True)
def fast_detection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_svc.turns.MIN_WINDOW", 1000)


def move_in(harness: IngestHarness, folder: str, count: int = COUNT, first: int = 0) -> list[str]:
    """Moves a folder in that is full of photos. Returns their paths in the order of capture, which is not
    that of their names."""
    staging = harness.home / "staging"
    staging.mkdir()
    names = [f"{(number * 7919) % 100_003:06}.jpg" for number in range(count)]
    paths = [f"{folder}/{name}" for name in names]
    for number, (name, path) in enumerate(zip(names, paths, strict=True)):
        harness.drop(str(Path("../staging") / name), jpeg(path), OLD + first + number)
    (harness.root / folder).parent.mkdir(exist_ok=True)
    staging.rename(harness.root / folder)
    return paths


@asynccontextmanager
async def never_idle_too_early(harness: IngestHarness, count: int) -> AsyncIterator[None]:
    """Looks all the time: it is not idle before that many photos are announced."""

    async def look() -> None:
        while len(harness.paths) < count:
            assert not harness.idle
            await asyncio.sleep(0.001)

    looking = asyncio.create_task(look())
    yield
    await looking


async def test_live_photos_of_others_do_not_wait_until_a_moved_in_folder_is_sorted(
    either: IngestHarness, sorting: Sorting
) -> None:
    async with either.running():
        await until(lambda: either.idle)
        files = move_in(either, FLOODED)
        await until(lambda: sorting.began)
        async with never_idle_too_early(either, COUNT + 1):
            either.drop(f"{OTHER}/live.jpg", jpeg("live"))
            await until(lambda: either.paths == [f"{OTHER}/live.jpg"])
            await until(lambda: either.ingest.worker.status().unannounced == COUNT)
            sorting.may_end.set()
            await until(lambda: either.idle)
    assert either.paths == [f"{OTHER}/live.jpg", *files]
    assert either.bus.backlog == files


async def test_live_photos_of_others_do_not_wait_until_what_a_scan_found_is_sorted(
    harness: IngestHarness, sorting: Sorting
) -> None:
    files = move_in(harness, FLOODED)
    async with harness.running():
        await until(lambda: sorting.began)
        async with never_idle_too_early(harness, COUNT + 1):
            harness.drop(f"{OTHER}/live.jpg", jpeg("live"))
            await until(lambda: harness.paths == [f"{OTHER}/live.jpg"])
            sorting.may_end.set()
            await until(lambda: harness.idle)
    assert harness.paths == [f"{OTHER}/live.jpg", *files]


async def test_a_live_photo_of_the_same_camera_waits_only_a_moment(
    either: IngestHarness, sorting: Sorting
) -> None:
    async with either.running():
        await until(lambda: either.idle)
        move_in(either, FLOODED)
        await until(lambda: sorting.began)
        either.drop(f"{FLOODED}/live.jpg", jpeg("live"))
        await until(lambda: either.paths == [f"{FLOODED}/live.jpg"])


async def test_a_live_photo_of_the_same_camera_comes_after_it_if_that_is_soon(
    either: IngestHarness, sorting: Sorting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_svc.waiting_files.ORDER_SECONDS", 90.0)
    async with either.running():
        await until(lambda: either.idle)
        files = move_in(either, FLOODED)
        await until(lambda: sorting.began)
        either.drop(f"{FLOODED}/live.jpg", jpeg("live"))
        await until(lambda: either.ingest.worker.status().unannounced == COUNT + 1)
        sorting.may_end.set()
        await until(lambda: either.idle)
    assert either.paths == [*files, f"{FLOODED}/live.jpg"]
    assert either.bus.backlog == files


async def test_a_single_file_that_follows_belongs_to_them(
    either: IngestHarness, sorting: Sorting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_svc.live_photos.RATE", 0.0)
    async with either.running():
        await until(lambda: either.idle)
        files = move_in(either, FLOODED)
        await until(lambda: sorting.began)
        either.drop(f"{FLOODED}/last.jpg", jpeg("last"), OLD)
        await until(lambda: either.ingest.worker.status().unannounced == COUNT + 1)
        sorting.may_end.set()
        await until(lambda: either.idle)
    assert either.paths == either.bus.backlog == [*files, f"{FLOODED}/last.jpg"]


async def test_what_arrives_while_a_camera_is_sorted_comes_after_it(
    either: IngestHarness, sorting: Sorting
) -> None:
    async with either.running():
        await until(lambda: either.idle)
        first = move_in(either, f"{FLOODED}/later", first=10_000)
        await until(lambda: sorting.began == 1)
        second = move_in(either, f"{FLOODED}/earlier")
        await until(lambda: either.ingest.worker.status().unannounced == 2 * COUNT)
        sorting.may_end.set()
        await until(lambda: either.idle)
        assert sorting.began == 2
    assert either.paths == [*first, *second]


async def test_nothing_is_lost_if_it_is_killed_while_files_are_sorted(
    harness: IngestHarness, sorting: Sorting
) -> None:
    async with harness.running():
        await until(lambda: harness.idle)
        files = move_in(harness, FLOODED)
        await until(lambda: sorting.began)
    assert not harness.paths
    sorting.may_end.set()
    async with harness.running():
        await until(lambda: harness.idle)
    assert harness.paths == files


async def test_nothing_is_lost_if_the_cameras_folder_is_away_while_files_are_sorted(
    either: IngestHarness, sorting: Sorting
) -> None:
    async with either.running():
        await until(lambda: either.idle)
        files = move_in(either, FLOODED)
        await until(lambda: sorting.began)
        either.root.rename(either.home / "elsewhere")
        await until(lambda: either.ingest.worker.status().problem)
        sorting.may_end.set()
        await until(lambda: not either.ingest.worker._backlog._to_sort)
        assert not either.idle
        (either.home / "elsewhere").rename(either.root)
        await until(lambda: either.idle)
    assert sorted(either.paths) == sorted(files)


async def test_too_many_files_to_remember_are_found_again_by_a_scan(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_svc.file_backlog.MAX_WAITING", MANY)
    async with harness.running():
        await until(lambda: harness.idle)
        files = move_in(harness, FLOODED)
        await until(lambda: harness.ingest.worker.status().unannounced)
        async with never_idle_too_early(harness, COUNT):
            await until(lambda: harness.idle)
    assert sorted(harness.paths) == sorted(files)


async def test_files_that_are_checked_in_several_rounds_are_sorted_together(
    either: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a live photo of another camera is taken between two rounds."""
    monkeypatch.setattr("ingest_svc.worker.MAX_CHECKED", 30)
    due, checked, after_two_rounds = CompletionTracker.due, list[str](), asyncio.Event()

    def counted(tracker: CompletionTracker, now: float, most: int) -> list[str]:
        found = due(tracker, now, most)
        if sum(path.startswith(FLOODED) for path in checked) >= 60 and not after_two_rounds.is_set():
            either.drop(f"{OTHER}/live.jpg", jpeg("live"))
            after_two_rounds.set()
        checked.extend(found)
        assert len(found) <= 30
        return found

    monkeypatch.setattr(CompletionTracker, "due", counted)
    async with either.running():
        await until(lambda: either.idle)
        files = move_in(either, FLOODED)
        await until(after_two_rounds.is_set)
        await until(lambda: either.idle and len(either.paths) == COUNT + 1)
    assert [path for path in either.paths if path in set(files)] == files


async def test_a_file_counts_until_it_is_submitted() -> None:
    submitting, may_submit, submitted = asyncio.Event(), asyncio.Event(), list[str]()

    async def submit(waiting: WaitingFile, _: Turns | None) -> None:
        submitting.set()
        await may_submit.wait()
        submitted.append(waiting.file.path)

    async def in_order(files: Iterable[Fingerprint]) -> list[Fingerprint]:
        return list(files)

    async def progress() -> dict[int, PartitionProgress]:
        return {}

    backlog = Backlog(
        Turns(progress, lambda camera: 0),
        camera=lambda folder: None,
        in_order=in_order,
        submit=submit,
        wake=lambda: None,
    )
    adding = asyncio.create_task(backlog.add_found([file_of("a", number) for number in range(3)]))
    await submitting.wait()
    assert len(backlog) == 3
    may_submit.set()
    await adding
    assert len(submitted) == 3
    assert len(backlog) == 0


def file_of(camera: str, number: int, mtime: int = OLD) -> Fingerprint:
    return Fingerprint(f"{camera}/{number}.jpg", mtime_ns=mtime * 10**9)


def test_the_sources_with_the_fewest_files_are_few() -> None:
    flood = [file_of("a", number) for number in range(MANY - 10)]
    ten, another = ([file_of(camera, number) for number in range(10)] for camera in ("b", "c"))
    fresh = [file_of("a", MANY, mtime=2**33)]
    assert few_and_many(flood + ten)[1] == []
    few, many = few_and_many(flood + ten + fresh)
    assert (set(few), many) == ({*ten, *fresh}, flood)
    few, many = few_and_many(flood + ten + another + fresh)
    assert (set(few), many) == ({*ten, *another, *fresh}, flood)
