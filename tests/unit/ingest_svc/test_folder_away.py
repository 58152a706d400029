"""The cameras folder goes away and comes back, as a network mount does."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest_svc.folder_lock import lock_folder
from ingest_svc.service import readable
from ingest_svc.watching.folder_state import is_mount_point
from ingest_svc.watching.folder_watcher import FolderAway
from mesh.problems import Conflict, Unavailable
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


def move_away(root: Path) -> None:
    root.rename(root.with_name("elsewhere"))


def take_away_and_cover(root: Path) -> None:
    """As an unmount does: the empty folder below appears."""
    move_away(root)
    root.mkdir()


def bring_back(root: Path) -> None:
    if root.exists():
        shutil.rmtree(root)
    root.with_name("elsewhere").rename(root)


def bring_another(root: Path) -> None:
    """The same files in another folder, as if mounted again from another place."""
    if root.exists():
        shutil.rmtree(root)
    shutil.copytree(root.with_name("elsewhere"), root)
    shutil.rmtree(root.with_name("elsewhere"))


@pytest.mark.parametrize("leave", [move_away, take_away_and_cover])
@pytest.mark.parametrize("back", [bring_back, bring_another])
async def test_ingest_waits_until_the_cameras_folder_is_back(
    either: IngestHarness, leave: Callable[[Path], None], back: Callable[[Path], None]
) -> None:
    either.drop("door/before.jpg", jpeg("before"))
    elsewhere = either.root.with_name("elsewhere")
    async with either.running() as ingest:
        check = readable(either.root, ingest.duty)
        await until(lambda: either.idle and either.paths)
        await check()
        leave(either.root)
        if not either.root.exists():
            await until(lambda: ingest.worker.status().problem)
            status = await ingest.worker.caught_up()
            assert (status.scanning, "away" in status.problem) == (True, True)
            with pytest.raises(Unavailable, match="away"):
                await check()
        else:
            await until(lambda: (either.root / ".lares.lock").exists())
        (elsewhere / "door" / "while.jpg").write_bytes(jpeg("while"))
        (elsewhere / "new" / "deep").mkdir(parents=True)
        (elsewhere / "new" / "deep" / "while.jpg").write_bytes(jpeg("new"))
        back(either.root)
        await until(lambda: {"door/while.jpg", "new/deep/while.jpg"} <= set(either.paths))
        await until(lambda: not ingest.worker.status().problem and either.idle)
        await check()
        either.drop("new/deep/after.jpg", jpeg("after"))
        either.drop("door/after.jpg", jpeg("after"))
        await until(lambda: {"new/deep/after.jpg", "door/after.jpg"} <= set(either.paths))
        with pytest.raises(Conflict):
            async with lock_folder(either.root, "another", patience=0):
                pass
    assert either.rejected == {}


async def test_many_short_absences_miss_nothing(either: IngestHarness) -> None:
    elsewhere = either.root.with_name("elsewhere")
    (either.root / "door").mkdir()
    async with either.running():
        await until(lambda: either.idle)
        for index in range(30):
            (either.root / "door" / f"{index}.jpg").write_bytes(jpeg(str(index)))
            move_away(either.root)
            (elsewhere / "door" / f"{index}-away.jpg").write_bytes(jpeg(f"{index} away"))
            bring_back(either.root)
        await until(lambda: len({media.sha256 for media in either.bus.media}) == 60)


def make_unreadable(root: Path) -> None:
    root.chmod(0)


def make_unlistable(root: Path) -> None:
    root.chmod(0o300)


def make_a_file_of(root: Path) -> None:
    move_away(root)
    root.touch()


def make_readable(root: Path) -> None:
    root.chmod(0o700)


def make_a_folder_of(root: Path) -> None:
    root.unlink()
    bring_back(root)


@pytest.mark.parametrize(
    ("leave", "back"),
    [
        (make_unreadable, make_readable),
        (make_unlistable, make_readable),
        (make_a_file_of, make_a_folder_of),
    ],
)
async def test_ingest_starts_while_the_cameras_folder_is_away(
    either: IngestHarness, leave: Callable[[Path], None], back: Callable[[Path], None]
) -> None:
    either.drop("door/one.jpg", jpeg("one"))
    with permissions_apply():
        leave(either.root)
        async with either.running() as ingest:
            await until(lambda: ingest.worker.status().problem)
            with pytest.raises(Unavailable):
                await readable(either.root, ingest.duty)()
            back(either.root)
            await until(lambda: either.paths == ["door/one.jpg"] and either.idle)
            await readable(either.root, ingest.duty)()
            either.drop("door/deep/two.jpg", jpeg("two"))
            await until(lambda: len(either.paths) == 2)
            with pytest.raises(Conflict):
                async with lock_folder(either.root, "another", patience=0):
                    pass


async def test_photos_that_cannot_be_read_while_the_cameras_folder_is_closed_are_not_rejected(
    either: IngestHarness,
) -> None:
    for index in range(60):
        either.drop(f"door/{index}.jpg", jpeg(str(index)))
    with permissions_apply():
        async with either.running() as ingest:
            await until(lambda: either.paths)
            either.root.chmod(0)
            await until(lambda: ingest.worker.status().problem)
            either.root.chmod(0o700)
            await until(lambda: len(set(either.paths)) == 60 and either.idle)
    assert either.rejected == {}


async def test_the_status_is_never_idle_while_the_cameras_folder_is_away(
    either: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before anything has noticed it."""
    (either.root / "door").mkdir()
    async with either.running() as ingest:
        await until(lambda: either.idle)
        assert not (await ingest.worker.caught_up()).scanning
        with monkeypatch.context() as unnoticed:
            unnoticed.setattr(ingest.worker._watcher, "check", lambda: None)
            unnoticed.setattr(ingest.worker._watcher.watch, "look", lambda: None)
            move_away(either.root)
            assert (await ingest.worker.caught_up()).scanning
            bring_back(either.root)
        await until(lambda: either.idle)


async def test_the_status_tells_that_the_cameras_folder_is_away_before_the_worker_has_noticed_it(
    either: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing() -> None: ...

    (either.root / "door").mkdir()
    async with either.running() as ingest:
        await until(lambda: either.idle)
        check = readable(either.root, ingest.duty)
        with monkeypatch.context() as unnoticed:
            unnoticed.setattr(ingest.worker, "_check", nothing)
            unnoticed.setattr(ingest.worker, "_round", nothing)
            move_away(either.root)
            status = await ingest.worker.caught_up()
            assert (status.scanning, "away" in status.problem) == (True, True)
            assert not ingest.worker.status().problem
            with pytest.raises(FolderAway):
                await check()
            bring_back(either.root)
        await until(lambda: either.idle)


async def test_an_error_of_a_round_is_told_as_the_absence_that_it_is(
    either: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder may leave between the check and the round."""

    async def unnoticed() -> None: ...

    (either.root / "door").mkdir()
    async with either.running() as ingest:
        await until(lambda: either.idle)
        with monkeypatch.context() as patched:
            patched.setattr(ingest.worker, "_check", unnoticed)
            move_away(either.root)
            ingest.worker._watcher.events.mark_lost()
            await until(lambda: ingest.worker.status().problem)
            assert "away" in ingest.worker.status().problem
            bring_back(either.root)
        await until(lambda: either.idle)


async def test_another_ingest_that_has_the_folder_that_is_there_now_is_told(either: IngestHarness) -> None:
    (either.root / "door").mkdir()
    other = either.root.with_name("other")
    other.mkdir()
    async with either.running() as ingest:
        await until(lambda: either.idle)
        async with lock_folder(other, "another"):
            move_away(either.root)
            other.rename(either.root)
            await until(lambda: "another Lares" in ingest.worker.status().problem)
            (either.root / "door").mkdir()
            (either.root / "door" / "one.jpg").write_bytes(jpeg("one"))
            assert either.paths == []
        await until(lambda: either.paths == ["door/one.jpg"])


async def test_errors_of_the_folder_are_waited_for(
    either: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share whose server is away answers every call with an error."""
    (either.root / "door").mkdir()
    async with either.running() as ingest:
        await until(lambda: either.idle)
        with monkeypatch.context() as failing:

            def stale(path: str) -> object:
                raise OSError(errno.ESTALE, "Stale file handle")

            failing.setattr("ingest_svc.watching.folder_watcher.folder_state", stale)
            await until(lambda: "Stale" in ingest.worker.status().problem)
            either.drop("door/one.jpg", jpeg("one"))
        await until(lambda: either.paths == ["door/one.jpg"] and either.idle)


async def test_a_lock_file_that_is_deleted_is_made_again(harness: IngestHarness) -> None:
    async with harness.running():
        await until(lambda: harness.idle)
        os.unlink(harness.root / ".lares.lock")
        await until(lambda: (harness.root / ".lares.lock").exists())
        with pytest.raises(Conflict):
            async with lock_folder(harness.root, "another", patience=0):
                pass


async def test_the_empty_folder_below_a_mount_is_not_taken_for_it(
    either: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = os.stat(either.root).st_ino
    monkeypatch.setattr(
        "ingest_svc.watching.folder_watcher.is_mount_point", lambda path: os.stat(path).st_ino == mounted
    )
    (either.root / "door").mkdir()
    async with either.running() as ingest:
        await until(lambda: either.idle)
        take_away_and_cover(either.root)
        await until(lambda: "nothing is mounted" in ingest.worker.status().problem)
        either.cameras.configure("yard")
        (either.root.with_name("elsewhere") / "door" / "one.jpg").write_bytes(jpeg("one"))
        assert list(either.root.iterdir()) == []
        bring_back(either.root)
        await until(lambda: either.paths == ["door/one.jpg"])
        await until((either.root / "yard").exists)


def test_the_root_of_the_system_is_a_mount_point_and_a_new_folder_is_not(tmp_path: Path) -> None:
    assert is_mount_point("/")
    assert is_mount_point("/proc")
    (tmp_path / "with space").mkdir()
    assert not is_mount_point(str(tmp_path / "with space"))
