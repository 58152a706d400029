"""Whatever happens to the folders, each that exists is watched, or listed again when it can be."""

import asyncio
import errno
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ingest_svc.examination import examine
from ingest_svc.fingerprint import Fingerprint
from ingest_svc.service import readable
from ingest_svc.watching.folder_poll import FileState, state_of
from ingest_svc.watching.folder_scan import ScanResult
from ingest_svc.watching.folder_state import FolderState, folder_state
from ingest_svc.watching.native_watch import NativeWatch
from ingest_svc.watching.polling_watch import PollingWatch
from ingest_svc.watching.watchdog_inotify import FolderInotify, WatchDescriptor
from ingest_svc.worker import IngestWorker
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.permissions import permissions_apply
from tests.support.waiting import until


@pytest.fixture(params=["native", "polling"])
def either(request: pytest.FixtureRequest, harness: IngestHarness) -> IngestHarness:
    """Watches natively, or by polling."""
    if request.param == "polling":
        harness.settings |= {"ingest_polling": True, "ingest_poll_seconds": 0.05}
    return harness


@pytest.fixture(autouse=True)
def permissions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("ingest_svc.watching.native_watch.LOOK_SECONDS", 0.5)
    with permissions_apply():
        yield


def unreadable(harness: IngestHarness) -> tuple[str, ...]:
    return harness.ingest.worker.status().unreadable


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o400, 0o600])
async def test_a_folder_that_is_unreadable_at_first_is_told_and_taken_up(
    either: IngestHarness, mode: int
) -> None:
    """As an FTP server does: it makes the folder for itself only, then opens it to others, then renames
    it."""
    camera = either.root / "door"
    camera.mkdir()
    async with either.running():
        await until(lambda: either.idle)
        made = camera / "upload"
        made.mkdir()
        (made / "deep").mkdir()
        (made / "deep" / "one.jpg").write_bytes(jpeg("one"))
        made.chmod(mode)
        await until(lambda: unreadable(either) == ("door/upload",))
        made.chmod(0o755)
        await until(lambda: not unreadable(either))
        made.rename(camera / "2026")
        (camera / "2026" / "deep" / "two.jpg").write_bytes(jpeg("two"))
        (camera / "2026" / "later").mkdir()
        (camera / "2026" / "later" / "three.jpg").write_bytes(jpeg("three"))
        await until(
            lambda: {"one", "two", "three"} <= {path[-9:].split("/")[-1][:-4] for path in either.paths}
        )
    assert either.rejected == {}


async def test_a_camera_folder_that_becomes_unreadable_and_readable_again(either: IngestHarness) -> None:
    camera = either.root / "door"
    (camera / "deep").mkdir(parents=True)
    async with either.running():
        await until(lambda: either.idle)
        camera.chmod(0)
        await until(lambda: unreadable(either) == ("door",))
        camera.chmod(0o755)
        await until(lambda: not unreadable(either))
        either.drop("door/deep/one.jpg", jpeg("one"))
        await until(lambda: either.paths == ["door/deep/one.jpg"])


async def test_an_unreadable_folder_that_is_removed_is_no_longer_told(either: IngestHarness) -> None:
    (either.root / "door" / "deep").mkdir(parents=True)
    (either.root / "door" / "deep").chmod(0)
    async with either.running():
        await until(lambda: unreadable(either) == ("door/deep",))
        (either.root / "door" / "deep").rmdir()
        await until(lambda: not unreadable(either))


async def test_a_folder_that_is_unreadable_at_the_start(either: IngestHarness) -> None:
    either.drop("door/deep/one.jpg", jpeg("one"))
    (either.root / "door").chmod(0)
    async with either.running():
        await until(lambda: unreadable(either) == ("door",))
        (either.root / "door").chmod(0o700)
        await until(lambda: either.paths == ["door/deep/one.jpg"])


@pytest.mark.parametrize("failing", ["door/deep", "door/one.jpg"])
async def test_polling_forgets_nothing_when_an_entry_cannot_be_looked_at(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    harness.settings |= {"ingest_polling": True, "ingest_poll_seconds": 0.05}
    harness.drop("door/one.jpg", jpeg("one"))
    harness.drop("door/deep/two.jpg", jpeg("two"))
    async with harness.running() as ingest:
        await until(lambda: harness.idle and len(harness.paths) == 2)
        watch = ingest.worker._watcher.watch
        assert isinstance(watch, PollingWatch)
        known = set(watch._poll._known)

        def broken_entry(entry: os.DirEntry[str]) -> FileState:
            if entry.path == str(harness.root / failing):
                raise OSError(errno.EIO, "Input/output error")
            return state_of(entry)

        def broken_folder(path: str) -> FolderState:
            if path == str(harness.root / failing):
                raise OSError(errno.EIO, "Input/output error")
            return folder_state(path)

        with monkeypatch.context() as breaking:
            breaking.setattr("ingest_svc.watching.folder_poll.state_of", broken_entry)
            breaking.setattr("ingest_svc.watching.folder_poll.folder_state", broken_folder)
            await until(lambda: unreadable(harness))
            assert set(watch._poll._known) == known
            assert watch._poll.has("door/one.jpg")
            harness.drop("door/beside.jpg", jpeg("beside"))  # the other entries are not held back
            await until(lambda: "door/beside.jpg" in harness.paths)
            assert "door/one.jpg" not in harness.rejected
        await until(lambda: not unreadable(harness))
        harness.drop("door/deep/three.jpg", jpeg("three"))
        await until(lambda: "door/deep/three.jpg" in harness.paths)


async def test_a_tree_that_is_renamed_right_after_it_was_made_is_watched(either: IngestHarness) -> None:
    expected = set[str]()
    (either.root / "door").mkdir()
    async with either.running():
        await until(lambda: either.idle)
        trees = [either.root / "door" / f"tree{index}" for index in range(40)]
        for tree in trees:
            made = tree.with_name(f"{tree.name}-upload")
            (made / "a" / "b" / "c").mkdir(parents=True)
            made.rename(tree)
        for index, tree in enumerate(trees):
            for below in ("", "a", "a/b", "a/b/c"):
                content = jpeg(f"{index} {below}")
                (tree / below / "photo.jpg").write_bytes(content)
                expected.add(sha256(content).hexdigest())
        await until(lambda: {media.sha256 for media in either.bus.media} == expected)


async def test_no_photo_is_missed_while_folders_are_moved_at_random(either: IngestHarness) -> None:
    chance = random.Random(9)
    cameras = [either.root / name for name in ("door", "yard", "garage")]
    for camera in cameras:
        camera.mkdir()
    expected = set[str]()

    def move_and_write() -> None:
        for index in range(400):
            folders = [Path(folder) for camera in cameras for folder, _, _ in os.walk(camera)]
            deep = [folder for folder in folders if folder not in cameras]
            match chance.randrange(5):
                case 0:
                    (chance.choice(folders) / f"f{index}" / "x").mkdir(parents=True)
                case 1 if deep:
                    moved, target = chance.choice(deep), chance.choice(folders)
                    if not target.is_relative_to(moved):
                        moved.rename(target / f"m{index}")
                case 2 if len(deep) > 1:
                    first, second = chance.sample(deep, 2)
                    if not (first.is_relative_to(second) or second.is_relative_to(first)):
                        aside = either.root / "door" / f"swap{index}"
                        first.rename(aside)
                        second.rename(first)
                        if second.parent.exists():
                            aside.rename(second)
                case _:
                    content = jpeg(f"photo {index}")
                    (chance.choice(folders) / f"{index}.jpg").write_bytes(content)
                    expected.add(sha256(content).hexdigest())

    async with either.running():
        await until(lambda: either.idle)
        await asyncio.to_thread(move_and_write)
        await until(
            lambda: expected <= {media.sha256 for media in either.bus.media},
            what=lambda: f"{len(expected - {media.sha256 for media in either.bus.media})} missing",
        )
        # Every folder that exists now is watched: photos that come later are found, too.
        for index, folder in enumerate([Path(f) for camera in cameras for f, _, _ in os.walk(camera)]):
            content = jpeg(f"later {index}")
            (folder / f"later{index}.jpg").write_bytes(content)
            expected.add(sha256(content).hexdigest())
        await until(lambda: expected <= {media.sha256 for media in either.bus.media})


async def test_a_folder_is_watched_even_if_all_its_events_were_lost(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    (harness.root / "door").mkdir()
    async with harness.running() as ingest:
        await until(lambda: harness.idle)
        watch = ingest.worker._watcher.watch
        with monkeypatch.context() as deaf:
            deaf.setattr(watch, "_handle", lambda _: None)
            (harness.root / "door" / "deep" / "deeper").mkdir(parents=True)
            shutil.copytree(harness.root / "door", harness.root / "yard")
            await until(lambda: "yard/deep/deeper" in watch._folders)  # type: ignore[attr-defined]
        harness.drop("door/deep/deeper/one.jpg", jpeg("one"))
        harness.drop("yard/deep/two.jpg", jpeg("two"))
        await until(lambda: sorted(harness.paths) == ["door/deep/deeper/one.jpg", "yard/deep/two.jpg"])


async def test_a_photo_in_a_folder_that_is_closed_for_a_moment_is_not_rejected(
    either: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera, closed = either.root / "door", list[str]()
    camera.mkdir()

    def closing(*arguments: Any, **options: Any) -> object:
        """Only the first time."""
        if closed:
            return examine(*arguments, **options)
        closed.append("door")
        camera.chmod(0)
        try:
            return examine(*arguments, **options)
        finally:
            camera.chmod(0o755)

    monkeypatch.setattr("ingest_svc.file_importer.examine", closing)
    async with either.running():
        await until(lambda: either.idle)
        either.drop("door/one.jpg", jpeg("one"))
        await until(lambda: either.paths == ["door/one.jpg"])
    assert closed
    assert either.rejected == {}


@pytest.mark.parametrize("step", ["_files", "_states"])
async def test_what_is_away_at_the_moment_when_it_is_looked_at_is_not_forgotten(
    either: IngestHarness, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A folder that is moved away and back. With polling, no poll may notice it."""
    away = list[str]()
    look = getattr(IngestWorker, step)

    def moving(worker: IngestWorker, argument: Any) -> object:
        """Only the first time."""
        if away:
            return look(worker, argument)
        away.append("door/day")
        (either.root / "door" / "day").rename(either.home / "away")
        try:
            return look(worker, argument)
        finally:
            (either.home / "away").rename(either.root / "door" / "day")

    (either.root / "door").mkdir()
    (either.home / "day").mkdir()
    (either.home / "day" / "one.jpg").write_bytes(jpeg("one"))
    async with either.running():
        await until(lambda: either.idle)
        monkeypatch.setattr(IngestWorker, step, moving)
        (either.home / "day").rename(either.root / "door" / "day")
        await until(lambda: either.paths == ["door/day/one.jpg"])
    assert away


async def test_a_folder_that_was_closed_too_briefly_to_be_noticed_is_scanned(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera, closed = harness.root / "door", list[str]()
    camera.mkdir()

    def closing(look: Callable[..., Any]) -> Callable[..., Any]:
        """Only the first time."""

        def closed_look(*arguments: Any) -> Any:
            if look.__name__ in closed:
                return look(*arguments)
            closed.append(look.__name__)
            camera.chmod(0)
            try:
                return look(*arguments)
            finally:
                camera.chmod(0o755)

        return closed_look

    async with harness.running() as ingest:
        await until(lambda: harness.idle)
        watch = ingest.worker._watcher.watch
        assert isinstance(watch, NativeWatch)
        handle = watch._handle
        monkeypatch.setattr(watch, "_handle", lambda event: event.is_attrib or handle(event))
        monkeypatch.setattr(watch, "_report_again", closing(watch._report_again))
        monkeypatch.setattr(ingest.worker, "_states", closing(ingest.worker._states))
        # The only file, and a link, because its events do not say that it is complete.
        (harness.home / "one.jpg").write_bytes(jpeg("one"))
        (camera / "one.jpg").hardlink_to(harness.home / "one.jpg")
        await until(lambda: "door/one.jpg" in harness.paths)
    assert sorted(closed) == ["_report_again", "_states"]


async def test_many_folders_that_become_readable_are_scanned_together(
    either: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(100):
        either.drop(f"door/{index}/deep/one.jpg", jpeg(str(index)))
        (either.root / "door" / str(index)).chmod(0)
    async with either.running() as ingest:
        await until(lambda: len(unreadable(either)) == 100 and either.idle)
        scan, scans = ingest.worker._scan.run, list[list[str]]()

        async def counted(folders: Iterable[str], skip: Callable[[Fingerprint], bool]) -> ScanResult:
            scans.append(list(folders))
            return await scan(scans[-1], skip)

        monkeypatch.setattr(ingest.worker._scan, "run", counted)
        for index in range(100):
            (either.root / "door" / str(index)).chmod(0o755)
        await until(lambda: len(set(either.paths)) == 100)
    assert len(scans) < 50, scans


async def test_a_folder_too_deep_to_be_reached_is_told_until_it_is_gone(
    either: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    (either.root / "door").mkdir()
    name = "n" * 200
    async with either.running():
        await until(lambda: either.idle)
        for _ in descend(either.root / "door", 22, name):
            pass
        await until(lambda: unreadable(either))
        either.drop("door/one.jpg", jpeg("one"))
        await until(lambda: either.paths == ["door/one.jpg"])
        watch, removed = either.ingest.worker._watcher.watch, list[str]()
        if isinstance(watch, NativeWatch):
            look_at = watch._look_at

            def removing(folder: str) -> None:
                """The folders vanish while they are looked at."""
                if not removed and folder == "door":
                    removed.append(folder)
                    subprocess.run(["rm", "-rf", either.root / "door" / name], check=True)
                look_at(folder)

            monkeypatch.setattr(watch, "_handle", lambda _: None)
            monkeypatch.setattr(watch, "_look_at", removing)
            await until(lambda: removed)
        else:
            subprocess.run(["rm", "-rf", either.root / "door" / name], check=True)
        await until(lambda: not unreadable(either))


def descend(top: Path, levels: int, name: str) -> Iterator[int]:
    """Makes folders in each other, and yields a descriptor of each."""
    folder = os.open(top, os.O_RDONLY)
    try:
        for _ in range(levels):
            os.mkdir(name, dir_fd=folder)
            below = os.open(name, os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = below
            yield folder
    finally:
        os.close(folder)


def write_at(folder: int, name: str, content: bytes) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=folder)
    os.write(descriptor, content)
    os.close(descriptor)


@pytest.fixture
def deep(harness: IngestHarness) -> Iterator[None]:
    """Removes folders that are too deep for shutil.rmtree, and so for pytest."""
    yield
    subprocess.run(["rm", "-rf", harness.root], check=True)


@pytest.mark.usefixtures("deep")
async def test_a_thousand_folders_in_each_other(either: IngestHarness) -> None:
    levels = 1100
    for level, folder in enumerate(descend(either.root, levels, "a")):
        if level % 500 == 499:
            write_at(folder, ".lares-taken-1.jpg", jpeg(f"recovered {level}"))
    async with either.running():
        await until(lambda: len(either.paths) == 2)
        for level, folder in enumerate(descend(either.root, levels, "b")):
            if level % 500 == 499:
                write_at(folder, "one.jpg", jpeg(f"made {level}"))
        await until(lambda: len(either.paths) == 4)
        (either.root / "b").rename(either.root / "c")
        await until(lambda: len([path for path in either.paths if path.startswith("c")]) == 2)


@pytest.mark.usefixtures("deep")
async def test_folders_that_are_made_while_those_above_are_listed_are_listed_once(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is found in the folder above, and its own event comes later."""
    listed, scandir, levels = list[str](), os.scandir, 200

    def growing(folder: Any) -> Any:
        if threading.current_thread() is watch:
            listed.append(folder)
            if len(listed) < levels:
                os.mkdir(f"{folder}/b")
        return scandir(folder)

    (harness.root / "door").mkdir()
    async with harness.running() as ingest:
        await until(lambda: harness.idle)
        watch = ingest.worker._watcher.watch
        with monkeypatch.context() as listing:
            listing.setattr("ingest_svc.watching.native_watch.os.scandir", growing)
            (harness.root / "yard").mkdir()
            await until(lambda: len(listed) >= levels)
        harness.drop("yard/" + "b/" * (levels - 1) + "one.jpg", jpeg("one"))
        await until(lambda: harness.paths)
    assert len(listed) < 2 * levels


@pytest.mark.parametrize("watches", [0, 5])
async def test_folders_for_which_the_system_has_no_watch_are_polled(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch, watches: int
) -> None:
    limit = [watches]
    add, watched = FolderInotify.add, dict[int, str]()

    def limited(inotify: FolderInotify, folder: str) -> WatchDescriptor:
        if len(watched) >= limit[0] and folder not in watched.values():
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
        watch = add(inotify, folder)
        watched[watch] = folder
        return watch

    monkeypatch.setattr(FolderInotify, "add", limited)
    monkeypatch.setattr("ingest_svc.watching.native_watch.POLL_SECONDS", 0.05)
    monkeypatch.setattr("ingest_svc.watching.folder_watcher.FALLBACK_POLL_SECONDS", 0.05)
    expected = set[str]()

    def drop(path: str) -> None:
        expected.add(path)
        harness.drop(path, jpeg(path))

    async with harness.running() as ingest:
        await until(lambda: harness.idle)
        for index in range(10):
            drop(f"door/{index}/deep/one.jpg")
        await until(lambda: set(harness.paths) == expected)
        await until(lambda: "fs.inotify.max_user_watches" in ingest.worker.status().limit)
        assert not ingest.worker.status().problem
        await readable(harness.root, ingest.duty)()
        for index in range(10):
            drop(f"door/{index}/deep/two.jpg")
            drop(f"yard/{index}/one.jpg")
        await until(lambda: set(harness.paths) == expected)
        (harness.root / "door" / "9" / "deep").chmod(0)
        await until(lambda: unreadable(harness) == ("door/9/deep",))
        (harness.root / "door" / "9" / "deep").chmod(0o755)
        (harness.root / "door" / "8").rename(harness.root / "door" / "eight")
        drop("door/eight/deep/three.jpg")
        drop("door/9/deep/three.jpg")
        await until(lambda: set(harness.paths) >= expected and not unreadable(harness))
        limit[0] = 1000
        if watches:
            await until(lambda: not ingest.worker.status().limit)
            watch = ingest.worker._watcher.watch
            assert isinstance(watch, NativeWatch)
            assert {"door/eight/deep", "door/9/deep", "yard/9"} <= set(watch._folders)
        drop("door/9/deep/four.jpg")
        await until(lambda: set(harness.paths) >= expected)


async def test_a_photo_that_comes_before_its_folder_is_polled_is_found(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    (harness.root / "door").mkdir()
    async with harness.running() as ingest:
        await until(lambda: harness.idle)
        watch, add, may_poll = ingest.worker._watcher.watch, FolderInotify.add, threading.Event()
        assert isinstance(watch, NativeWatch)
        poll = watch._poll.poll

        def limited(inotify: FolderInotify, folder: str) -> WatchDescriptor:
            if "day" in folder:
                raise OSError(errno.ENOSPC, "inotify watch limit reached")
            return add(inotify, folder)

        monkeypatch.setattr(FolderInotify, "add", limited)
        monkeypatch.setattr(watch._poll, "poll", lambda folders: may_poll.wait() and poll(folders))
        harness.drop("door/day/one.jpg", jpeg("one"))
        await until(lambda: harness.paths == ["door/day/one.jpg"])
        harness.drop("door/day/two.jpg", jpeg("two"))
        may_poll.set()
        await until(lambda: "door/day/two.jpg" in harness.paths)


async def test_without_inotify_the_cameras_folder_is_polled(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_: object) -> None:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(FolderInotify, "__init__", none_left)
    monkeypatch.setattr("ingest_svc.watching.folder_watcher.FALLBACK_POLL_SECONDS", 0.05)
    async with harness.running() as ingest:
        await until(lambda: harness.idle)
        assert "fs.inotify.max_user_instances" in ingest.worker.status().limit
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.paths == ["door/one.jpg"])
