"""The folder of a camera is a link, for example to the mount of a network storage."""

import errno
import os
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from ingest_svc import examination
from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.examination import examine
from ingest_svc.facts import SourceCamera
from ingest_svc.fingerprint import Fingerprint, fingerprint
from ingest_svc.formats.inspection import MediaLimits
from ingest_svc.originals import SET_ASIDE_PREFIX
from ingest_svc.service import readable
from ingest_svc.thread_pool import ThreadPool
from ingest_svc.watching.folder_scan import FolderScan
from ingest_svc.watching.folder_walk import camera_folder_names, walk
from ingest_svc.watching.ignored_names import IgnoredNames
from mesh.config import load_config
from mesh.problems import Invalid, Unavailable
from tests.support.image_files import jpeg
from tests.support.ingest_harness import FakeKnownFiles, IngestHarness
from tests.support.waiting import until


@pytest.fixture(params=["native", "polling"])
def either(
    request: pytest.FixtureRequest, harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> IngestHarness:
    """Watches natively, or by polling. Links may lead into the folder `nas`."""
    monkeypatch.setattr("ingest_svc.watching.native_watch.LOOK_SECONDS", 0.3)
    if request.param == "polling":
        harness.settings |= {"ingest_polling": True, "ingest_poll_seconds": 0.05}
    nas(harness).mkdir()
    harness.settings |= {"ingest_link_targets": [str(nas(harness))]}
    return harness


def nas(harness: IngestHarness) -> Path:
    return harness.home.parent / "nas"


def put(folder: Path, name: str, content: str | None = None) -> Path:
    """Moves a photo into place."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    part = folder.parent / f"{name.replace('/', '-')}.part"
    part.write_bytes(jpeg(content or name))
    return part.rename(folder / name)


def details(harness: IngestHarness) -> dict[str, str]:
    return {rejection.file.path: rejection.detail for rejection in harness.bus.rejections}


def unreadable(harness: IngestHarness) -> tuple[str, ...]:
    return harness.ingest.worker.status().unreadable


async def test_a_linked_folder_is_a_camera(either: IngestHarness) -> None:
    put(nas(either) / "door", "before.jpg")
    (either.root / "Front Door").symlink_to(nas(either) / "door")
    async with either.running():
        await until(lambda: either.idle and either.paths == ["Front Door/before.jpg"])
        put(nas(either) / "door", "after.jpg")
        put(nas(either) / "door", "2026/11/deep.jpg")
        await until(lambda: either.idle and len(either.paths) == 3)
        put(nas(either) / "door", "2026/11/deep.jpg", "changed")
        await until(lambda: either.idle and len(either.paths) == 4)
    assert set(either.paths) == {f"Front Door/{name}.jpg" for name in ("before", "after", "2026/11/deep")}
    assert {(media.camera_id, media.camera_name) for media in either.bus.media} == {
        ("front-door", "Front Door")
    }
    assert either.rejected == {}


async def test_a_link_that_is_made_while_lares_runs(either: IngestHarness) -> None:
    put(nas(either) / "door", "deep/before.jpg")
    async with either.running():
        await until(lambda: either.idle)
        (either.root / "door").symlink_to(nas(either) / "door")
        await until(lambda: either.idle and either.paths == ["door/deep/before.jpg"])
        put(nas(either) / "door", "deep/after.jpg")
        await until(lambda: either.idle and len(either.paths) == 2)
        (either.root / "door").rename(either.root / "gate")
        put(nas(either) / "door", "deep/gate.jpg")
        await until(lambda: "gate/deep/gate.jpg" in either.paths)
        await until(lambda: either.idle)
        (either.root / "gate").unlink()
        await until(lambda: not either.ingest.worker._folders.known("gate"))
        put(nas(either) / "door", "deep/late.jpg")
        either.drop("yard/last.jpg", jpeg("last"))
        await until(lambda: either.idle and "yard/last.jpg" in either.paths)
    assert not any("late" in path for path in either.paths)
    assert either.rejected == {}


async def test_without_the_setting_a_linked_folder_is_refused_and_the_setting_named(
    either: IngestHarness,
) -> None:
    del either.settings["ingest_link_targets"]
    put(nas(either) / "door", "photo.jpg")
    (either.root / "door").symlink_to(nas(either) / "door")
    async with either.running():
        await until(lambda: either.idle and either.rejected)
    assert either.rejected == {"door": "LINK_OUTSIDE"}
    assert "LARES_INGEST_LINK_TARGETS" in details(either)["door"]
    assert either.paths == []


async def test_a_rejected_link_is_a_camera_once_the_setting_allows_it(either: IngestHarness) -> None:
    put(nas(either) / "door", "photo.jpg")
    (either.root / "door").symlink_to(nas(either) / "door")
    allowed = either.settings.pop("ingest_link_targets")
    async with either.running():
        await until(lambda: either.idle and either.rejected)
    either.settings["ingest_link_targets"] = allowed
    async with either.running():
        await until(lambda: either.idle and either.paths == ["door/photo.jpg"])


async def test_links_that_are_refused_all_the_same(either: IngestHarness) -> None:
    home, elsewhere = either.home, either.home.parent / "nas-2"
    elsewhere.mkdir()
    photo = put(nas(either) / "door", "photo.jpg")
    put(elsewhere, "secret.jpg")
    (nas(either) / "way-out").symlink_to(elsewhere)
    either.settings["ingest_link_targets"] = [str(nas(either)), str(home)]
    links: dict[str, str | Path] = {
        "elsewhere": elsewhere,
        "dots": f"{nas(either)}/../nas-2",
        "relative-dots": "../../nas/../nas-2",
        "by-another-link": nas(either) / "way-out",
        "below-another-link": nas(either) / "way-out" / "nothing",
        "file": photo,
        "home": home,
        "media": home / "media",
        "nothing": home.parent / "nothing",
    }
    for name, target in links.items():
        (either.root / name).symlink_to(target)
    (either.root / "loop").symlink_to(either.root)
    (either.root / "circle").symlink_to(either.root / "circle")
    (either.root / "good").symlink_to(nas(either) / "door")
    async with either.running():
        await until(lambda: either.idle and len(either.rejected) == len(links))
        await until(lambda: either.paths == ["good/photo.jpg"])
        either.drop("door/last.jpg", jpeg("last"))
        await until(lambda: either.idle and "door/last.jpg" in either.paths)
        assert unreadable(either) == ()
    assert either.rejected == dict.fromkeys(links, "LINK_OUTSIDE")
    assert either.paths == ["good/photo.jpg", "door/last.jpg"]
    assert "Lares" in details(either)["media"]
    assert "not a folder" in details(either)["file"]


async def test_no_link_leads_to_what_lares_uses_itself(either: IngestHarness) -> None:
    parent, blobs = either.home.parent, either.home.parent / "blobs"
    put(blobs, "photo.jpg")
    either.settings |= {
        "ingest_link_targets": ["/"],
        "cache": parent / "cache",
        "blobs_url": f"file://{blobs}",
    }
    links = {"around": parent, "all": Path("/"), "blobs": blobs, "cache": parent / "cache" / "blobs"}
    for name, target in links.items():
        (either.root / name).symlink_to(target)
    async with either.running():
        await until(lambda: either.idle and len(either.rejected) == len(links))
    assert either.rejected == dict.fromkeys(links, "LINK_OUTSIDE")
    assert all("Lares uses" in detail for detail in details(either).values())
    assert either.paths == []


async def test_links_within_a_linked_folder_are_refused(either: IngestHarness) -> None:
    door, elsewhere = nas(either) / "door", either.home / "elsewhere"
    photo = put(door, "photo.jpg")
    secret = put(elsewhere, "secret.jpg")
    either.drop("yard/local.jpg", jpeg("local"))
    (either.root / "door").symlink_to(door)
    async with either.running():
        await until(lambda: either.idle and len(either.paths) == 2)
        (door / "folder").symlink_to(elsewhere)
        (door / "sibling").symlink_to(nas(either))
        (door / "out.jpg").symlink_to(secret)
        (door / "same.jpg").symlink_to(photo)
        (door / "local.jpg").symlink_to(either.root / "yard" / "local.jpg")
        (either.root / "yard" / "through.jpg").symlink_to(either.root / "door" / "photo.jpg")
        (either.root / "yard" / "folder").symlink_to(either.root / "door")
        await until(lambda: either.idle and len(either.rejected) == 7)
    names = ("folder", "sibling", "out.jpg", "same.jpg", "local.jpg")
    assert either.rejected == dict.fromkeys(
        [*(f"door/{name}" for name in names), "yard/through.jpg", "yard/folder"], "LINK_OUTSIDE"
    )
    assert sorted(either.paths) == ["door/photo.jpg", "yard/local.jpg"]


async def test_of_two_links_to_the_same_photos_only_one_is_followed(either: IngestHarness) -> None:
    door = nas(either) / "door"
    put(door, "inside/photo.jpg")
    (either.root / "b").symlink_to(door)
    async with either.running():
        await until(lambda: either.idle and either.paths == ["b/inside/photo.jpg"])
        (either.root / "a").symlink_to(f"{nas(either)}/./door")
        (either.root / "c").symlink_to(door / "inside")
        (either.root / "d").symlink_to(nas(either))
        await until(lambda: either.idle and len(either.rejected) == 3)
        put(door, "inside/second.jpg")
        await until(lambda: either.idle and len(either.paths) == 2)
        assert unreadable(either) == ()
        (either.root / "b").unlink()
        await until(lambda: {"a/inside/photo.jpg", "a/inside/second.jpg"} <= set(either.paths))
        await until(lambda: either.idle)
        put(door, "inside/third.jpg")
        await until(lambda: either.idle and "a/inside/third.jpg" in either.paths)
    assert either.rejected == dict.fromkeys("acd", "CAMERA_CONFLICT")
    assert "'b'" in details(either)["a"]
    assert len(either.paths) == 5


async def test_a_target_that_is_mounted_later(either: IngestHarness) -> None:
    (either.root / "door").symlink_to(nas(either) / "door" / "photos")
    async with either.running() as ingest:
        await until(lambda: unreadable(either) == ("door",))
        with pytest.raises(Unavailable, match="door"):
            await readable(either.root, ingest.duty)()
        either.drop("yard/one.jpg", jpeg("one"))
        await until(lambda: either.idle and either.paths == ["yard/one.jpg"])
        made = put(either.home / "made" / "photos", "deep/first.jpg").parent.parent.parent
        made.rename(nas(either) / "door")
        await until(lambda: either.idle and "door/deep/first.jpg" in either.paths)
        await until(lambda: unreadable(either) == ())
        put(nas(either) / "door" / "photos", "deep/second.jpg")
        await until(lambda: either.idle and "door/deep/second.jpg" in either.paths)
    assert either.rejected == {}


async def test_no_folder_is_made_where_a_target_is_away(
    either: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The camera is known, but its link was made after the folders were listed."""
    (either.root / "door").symlink_to(nas(either) / "door")
    listed = list[list[str]]()

    def names_before(root: CamerasRoot, ignored: IgnoredNames) -> list[str]:
        listed.append([] if not listed else camera_folder_names(root, ignored))
        return listed[-1]

    monkeypatch.setattr("ingest_svc.worker.camera_folder_names", names_before)
    either.cameras.configure("door")
    async with either.running():
        await until(lambda: len(listed) > 1 and unreadable(either) == ("door",))
        assert not (nas(either) / "door").exists()
        put(nas(either) / "door", "photo.jpg")
        await until(lambda: either.idle and either.paths == ["door/photo.jpg"])


@pytest.mark.parametrize("inner", [True, False], ids=["the target", "what it is in"])
async def test_a_target_that_goes_away_for_a_while(either: IngestHarness, inner: bool) -> None:
    door = nas(either) / "mount" / "door"
    put(door, "deep/before.jpg")
    (either.root / "door").symlink_to(door)
    moved = door if inner else door.parent
    away = either.home / "away"
    door_away = away if inner else away / "door"
    async with either.running():
        await until(lambda: either.idle and len(either.paths) == 1)
        moved.rename(away)
        await until(lambda: unreadable(either) == ("door",))
        put(door_away, "deep/while.jpg")
        put(door_away, "new/while.jpg")
        either.drop("yard/one.jpg", jpeg("one"))
        await until(lambda: either.idle and "yard/one.jpg" in either.paths)
        away.rename(moved)
        await until(lambda: {"door/deep/while.jpg", "door/new/while.jpg"} <= set(either.paths))
        await until(lambda: either.idle and not unreadable(either))
        put(door, "deep/after.jpg")
        await until(lambda: either.idle and "door/deep/after.jpg" in either.paths)
    assert either.rejected == {}
    assert len(either.paths) == 5


@pytest.mark.parametrize("inner", [True, False], ids=["the target", "what it is in"])
async def test_many_short_absences_of_a_target_miss_nothing(either: IngestHarness, inner: bool) -> None:
    door = nas(either) / "mount" / "door"
    door.mkdir(parents=True)
    (either.root / "door").symlink_to(door)
    moved, away = door if inner else door.parent, either.home / "away"
    async with either.running():
        await until(lambda: either.idle)
        for index in range(30):
            put(door, f"{index}.jpg")
            moved.rename(away)
            put(away if inner else away / "door", f"{index}-away.jpg")
            away.rename(moved)
        await until(lambda: len({media.sha256 for media in either.bus.media}) == 60)
    assert either.rejected == {}


def replace_link(link: Path, target: Path) -> None:
    link.with_name(".new").symlink_to(target)
    link.with_name(".new").rename(link)


def remove_and_link(link: Path, target: Path) -> None:
    link.unlink()
    link.symlink_to(target)


@pytest.mark.parametrize("change", [replace_link, remove_and_link])
async def test_a_link_that_leads_elsewhere_later(
    either: IngestHarness, change: Callable[[Path, Path], None]
) -> None:
    first, second, refused = nas(either) / "first", nas(either) / "second", either.home / "refused"
    put(first, "deep/one.jpg")
    put(second, "deep/two.jpg")
    put(refused, "deep/secret.jpg")
    (either.root / "door").symlink_to(first)
    async with either.running():
        await until(lambda: either.idle and either.paths == ["door/deep/one.jpg"])
        change(either.root / "door", second)
        await until(lambda: either.idle and "door/deep/two.jpg" in either.paths)
        put(first, "deep/late.jpg")
        put(second, "deep/three.jpg")
        await until(lambda: either.idle and "door/deep/three.jpg" in either.paths)
        change(either.root / "door", refused)
        await until(lambda: either.idle and either.rejected == {"door": "LINK_OUTSIDE"})
        put(refused, "deep/more.jpg")
        put(second, "deep/late.jpg")
        either.drop("yard/one.jpg", jpeg("yard"))
        await until(lambda: either.idle and "yard/one.jpg" in either.paths)
        change(either.root / "door", second)
        await until(lambda: either.idle and "door/deep/late.jpg" in either.paths)
    assert either.rejected == {"door": "LINK_OUTSIDE"}
    expected = ["door/deep/one.jpg", "door/deep/two.jpg", "door/deep/three.jpg", "yard/one.jpg"]
    assert either.paths == [*expected, "door/deep/late.jpg"]


async def test_a_link_and_a_folder_take_turns(either: IngestHarness) -> None:
    link, real, target = either.root / "door", either.home / "real", nas(either) / "door"
    put(target, "deep/linked.jpg")
    put(real, "deep/real.jpg")
    link.symlink_to(target)
    async with either.running():
        await until(lambda: either.idle and either.paths == ["door/deep/linked.jpg"])
        link.unlink()
        real.rename(link)
        await until(lambda: either.idle and "door/deep/real.jpg" in either.paths)
        put(link, "deep/second.jpg")
        await until(lambda: either.idle and "door/deep/second.jpg" in either.paths)
        link.rename(real)
        link.symlink_to(target)
        put(target, "deep/third.jpg")
        await until(lambda: either.idle and "door/deep/third.jpg" in either.paths)
        link.unlink()
        (target / "photo.jpg").write_bytes(jpeg("stray"))
        link.write_bytes(jpeg("a file"))
        await until(lambda: either.idle and either.rejected == {"door": "CAMERA_NAME"})
    assert len(either.paths) == 4


async def test_an_allowed_folder_that_is_reached_by_a_link(either: IngestHarness) -> None:
    mount = either.home.parent / "mount"
    mount.symlink_to(nas(either))
    either.settings["ingest_link_targets"] = [f"{mount}/cameras"]
    (either.root / "door").symlink_to(mount / "cameras" / "door")
    (either.root / "gate").symlink_to(nas(either) / "cameras" / "gate")
    put(nas(either) / "cameras" / "door", "door.jpg")
    put(nas(either) / "cameras" / "gate", "gate.jpg")
    put(either.home.parent / "other" / "cameras" / "door", "other.jpg")
    async with either.running():
        await until(lambda: either.idle and len(either.paths) == 2)
        replace_link(mount, either.home.parent / "other")  # now the folder is another one
        await until(lambda: either.idle and "door/other.jpg" in either.paths and either.rejected)
        put(either.home.parent / "other" / "cameras" / "door", "more.jpg")
        await until(lambda: either.idle and "door/more.jpg" in either.paths)
    assert either.rejected == {"gate": "LINK_OUTSIDE"}
    assert set(either.paths) == {"door/door.jpg", "gate/gate.jpg", "door/other.jpg", "door/more.jpg"}


async def test_a_target_that_becomes_a_link_to_elsewhere(either: IngestHarness) -> None:
    door, elsewhere = nas(either) / "door", either.home / "elsewhere"
    put(door, "deep/photo.jpg")
    put(elsewhere, "deep/secret.jpg")
    (either.root / "door").symlink_to(door)
    async with either.running():
        await until(lambda: either.idle and len(either.paths) == 1)
        (door / "deep").rename(either.home / "deep")
        (door / "deep").symlink_to(elsewhere / "deep")
        await until(lambda: either.idle and "door/deep" in either.rejected)
        door.rename(either.home / "old")
        door.symlink_to(elsewhere)
        await until(lambda: either.idle and "door" in either.rejected)
        put(elsewhere, "deep/more.jpg")
        either.drop("yard/one.jpg", jpeg("yard"))
        await until(lambda: either.idle and "yard/one.jpg" in either.paths)
    assert either.paths == ["door/deep/photo.jpg", "yard/one.jpg"]
    assert either.rejected == {"door": "LINK_OUTSIDE", "door/deep": "LINK_OUTSIDE"}


async def test_photos_of_a_target_that_fails_do_not_keep_the_other_cameras_waiting(
    either: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = nas(either) / "door"
    for index in range(70):
        put(door, f"{index}.jpg")
    (either.root / "door").symlink_to(door)
    failing, scandir, open_file = [True], os.scandir, examination._open

    def broken(path: str, flags: int) -> int:
        if failing and path.startswith(str(nas(either))):
            raise OSError(errno.ESTALE, "Stale file handle")
        return open_file(path, flags)

    def broken_list(path: Any) -> Any:
        if failing and path == str(door):
            raise OSError(errno.ESTALE, "Stale file handle")
        return scandir(path)

    monkeypatch.setattr(examination, "_open", broken)
    async with either.running():
        with monkeypatch.context() as patched:
            patched.setattr("ingest_svc.examination.os.scandir", broken_list)
            either.drop("yard/one.jpg", jpeg("yard"))
            await until(lambda: "yard/one.jpg" in either.paths)
        failing.clear()
        await until(lambda: either.idle and len(either.paths) == 71)
    assert either.rejected == {}


async def test_a_restart_announces_nothing_twice(either: IngestHarness) -> None:
    put(nas(either) / "door", "photo.jpg")
    (either.root / "door").symlink_to(nas(either) / "door")
    async with either.running():
        await until(lambda: either.idle and either.paths)
    file = fingerprint(CamerasRoot(nas(either).resolve()), "door/photo.jpg")
    assert file is not None
    either.known_files.files.add(file)
    async with either.running():
        await until(lambda: either.idle)
        put(nas(either) / "door", "second.jpg")
        await until(lambda: either.idle and "door/second.jpg" in either.paths)
    assert either.paths == ["door/photo.jpg", "door/second.jpg"]


async def test_originals_in_a_linked_folder_are_taken(either: IngestHarness) -> None:
    either.settings["ingest_originals"] = "take"
    door = nas(either) / "door"
    put(door, "first.jpg")
    put(door, f"deep/{SET_ASIDE_PREFIX}0.jpg")
    (either.root / "door").symlink_to(door)
    async with either.running():
        put(door, "deep/second.jpg")
        await until(lambda: either.idle and len(either.paths) == 3)
        await until(lambda: not [path for path in door.rglob("*") if path.is_file()])
    assert f"door/deep/{SET_ASIDE_PREFIX[1:]}0.jpg" in either.paths
    assert (either.root / "door").is_symlink()


async def test_nothing_is_taken_from_a_folder_in_whose_place_a_link_was_put(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.settings["ingest_originals"] = "take"
    other = harness.home / "other"
    put(other, "photo.jpg", "somebody's")

    def swapping(root: CamerasRoot, path: str) -> Fingerprint | None:
        found = fingerprint(root, path)
        if not moved.exists():
            (harness.root / "door").rename(moved)
            (harness.root / "door").symlink_to(other)
        return found

    moved = harness.home / "moved"
    monkeypatch.setattr("ingest_svc.originals.fingerprint", swapping)
    async with harness.running():
        harness.drop("door/photo.jpg", jpeg("photo"))
        await until(lambda: harness.idle and harness.paths and moved.exists())
    assert [path.name for path in other.iterdir()] == ["photo.jpg"]


def test_a_file_is_not_read_through_a_link_that_was_put_there_after_the_check(tmp_path: Path) -> None:
    """Everything that can be compared is alike: the link leads to the same file."""
    tmp_path = tmp_path.resolve()
    cameras, target = tmp_path / "cameras", tmp_path / "nas" / "door"
    cameras.mkdir()
    put(target, "deep/photo.jpg")
    put(cameras / "yard", "deep/photo.jpg")
    (cameras / "door").symlink_to(target)
    root = CamerasRoot(cameras, [tmp_path / "nas"])
    root.refresh()
    for camera, folder in (("door", target), ("yard", cameras / "yard")):
        file = fingerprint(root, f"{camera}/deep/photo.jpg")
        assert file is not None
        source, limits = SourceCamera(camera, camera, UTC), MediaLimits(10**6, 10**6)
        assert isinstance(examine(root, file, source, limits), examination.ExaminedMedia)
        (folder / "deep").rename(tmp_path / f"moved-{camera}")
        (folder / "deep").symlink_to(tmp_path / f"moved-{camera}")
        assert examine(root, file, source, limits) is None
        assert fingerprint(root, file.path) is None


def test_a_path_goes_by_where_the_link_led_when_it_was_looked_at(tmp_path: Path) -> None:
    tmp_path = tmp_path.resolve()
    cameras, target, elsewhere = tmp_path / "cameras", tmp_path / "nas", tmp_path / "elsewhere"
    cameras.mkdir()
    put(target, "photo.jpg")
    put(elsewhere, "photo.jpg")
    (cameras / "door").symlink_to(target)
    root, failed = CamerasRoot(cameras, [target]), list[str]()
    assert fingerprint(root, "door/photo.jpg") is None
    assert root.refresh() == {"door"}
    assert root.refresh() == set()
    replace_link(cameras / "door", elsewhere)
    assert str(root / "door/photo.jpg") == f"{target}/photo.jpg"
    assert root.refresh() == {"door"}
    assert fingerprint(root, "door/photo.jpg") is None
    assert camera_folder_names(root, IgnoredNames()) == []
    replace_link(cameras / "door", target)
    root.refresh()
    shutil.rmtree(target)
    assert (list(walk(root, "", IgnoredNames(), failed.append)), failed) == ([], ["door"])
    assert camera_folder_names(root, IgnoredNames()) == ["door"]
    target.symlink_to(elsewhere)
    assert list(walk(root, "", IgnoredNames(), failed.append)) == []
    assert fingerprint(root, "door") is None


async def test_whether_a_file_is_complete_is_not_inferred_from_the_clock_of_another_computer(
    tmp_path: Path,
) -> None:
    tmp_path = tmp_path.resolve()
    cameras, target = tmp_path / "cameras", tmp_path / "nas"
    cameras.mkdir()
    growing = put(target, "growing.jpg")
    put(target, "whole.jpg")
    (cameras / "door").symlink_to(target)
    root = CamerasRoot(cameras, [target])
    root.refresh()

    async def ignore(known: list[Fingerprint]) -> None: ...

    def owner(file: Fingerprint) -> SourceCamera:
        if file.path == "door/growing.jpg":
            with growing.open("ab") as more:
                more.write(b"more")
        return SourceCamera("door", "door", UTC)

    with closing(ThreadPool("checks", 1)) as checks:
        scan = FolderScan(
            root,
            clock=lambda: time.time_ns() + 10 * 10**9,
            settle_seconds=0.01,
            owner=owner,
            known_files=FakeKnownFiles(),
            on_known=ignore,
            open_for_writing=lambda _: False,
            ignored=IgnoredNames(),
            on_failure=lambda _: None,
            checks=checks,
        )
        result = await scan.run([""], lambda _: False)
    assert ([file.path for file in result.unknown], result.incomplete) == (
        ["door/whole.jpg"],
        ["door/growing.jpg"],
    )


@pytest.mark.parametrize("folders", ["nas", "/nas,../other", "~/nas"])
def test_a_target_that_is_no_absolute_path_is_refused(tmp_path: Path, folders: str) -> None:
    with pytest.raises(Invalid, match=r"LARES_INGEST_LINK_TARGETS: .* is not an absolute path"):
        load_config(home=tmp_path, ingest_link_targets=folders)


def test_a_link_with_an_ignored_name_takes_no_target_away(tmp_path: Path) -> None:
    tmp_path = tmp_path.resolve()
    (tmp_path / "cameras").mkdir()
    for name in (".hidden", "#old", "door"):
        (tmp_path / "cameras" / name).symlink_to(tmp_path / "nas")
    root = CamerasRoot(tmp_path / "cameras", ["/"], is_ignored=IgnoredNames(["#old"]).folder)
    assert root.refresh() == {"door"}
    assert root.links == {"door"}


def test_a_plain_file_in_the_cameras_folder_is_no_reason_to_look_at_all_links(tmp_path: Path) -> None:
    """Or thousands of them would take quadratic time."""
    tmp_path = tmp_path.resolve()
    cameras, target = tmp_path / "cameras", tmp_path / "nas"
    cameras.mkdir()
    for name in ("followed", "refused"):
        (cameras / name).symlink_to(target)
    put(cameras, "stray.jpg")
    root = CamerasRoot(cameras, [target])
    assert root.refresh() == {"followed"}
    (cameras / "new").symlink_to(target)
    (cameras / "followed").unlink()
    (cameras / "refused").unlink()
    names = ("new", "followed", "refused", "stray.jpg", "nothing")
    assert [name for name in names if root.may_be_link(name)] == ["new", "followed", "refused"]
    assert not CamerasRoot(cameras).may_be_link("new")
