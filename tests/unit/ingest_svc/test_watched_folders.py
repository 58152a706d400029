"""Whatever happens to the folders, each that exists is watched, or listed again when it can be."""

import asyncio
import errno
import os
import random
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

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
        lstat, known = os.lstat, set(watch._known)  # type: ignore[attr-defined]

        def broken(path: str) -> os.stat_result:
            if path == str(harness.root / failing):
                raise OSError(errno.EIO, "Input/output error")
            return lstat(path)

        with monkeypatch.context() as breaking:
            breaking.setattr("ingest_svc.watching.polling_watch.os.lstat", broken)
            await until(lambda: unreadable(harness))
            assert "door/one.jpg" not in harness.rejected
            assert set(watch._known) == known  # type: ignore[attr-defined]
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
