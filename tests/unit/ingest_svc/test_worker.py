"""Files that arrive while ingest_svc runs, on a real file system."""

import os
import shutil
import time
from collections.abc import Callable

import pytest

from mesh.identity import media_id
from tests.support.blobs import content_of
from tests.support.image_files import jpeg, png
from tests.support.ingest_harness import IngestHarness, until_checked
from tests.support.waiting import until


async def until_scanned(harness: IngestHarness) -> None:
    await until(lambda: harness.idle)


async def test_a_photo_renamed_into_place_is_announced_with_its_blob(harness: IngestHarness) -> None:
    async with harness.running():
        await until_scanned(harness)
        content = jpeg("one", width=800, height=600)
        file = harness.drop("Front Door/2026/one.jpg", content, mtime=1_767_614_400.25)
        await until(lambda: harness.idle and harness.bus.media)
    (media,) = harness.bus.media
    assert (media.camera_id, media.camera_name) == ("front-door", "Front Door")
    assert media.id == media_id("front-door", media.sha256)
    assert (media.width, media.height, media.size_bytes) == (800, 600, len(content))
    assert await content_of(harness.blobs, media.sha256) == content
    assert media.captured_at.ToNanoseconds() == 1_767_614_400_250_000_000
    status = file.stat()
    assert media.file.path == "Front Door/2026/one.jpg"
    assert (media.file.inode, media.file.mtime_ns) == (status.st_ino, status.st_mtime_ns)
    assert (media.file.ctime_ns, media.file.size_bytes) == (status.st_ctime_ns, status.st_size)
    assert file.exists()


async def test_a_renamed_photo_does_not_wait_for_its_size_to_settle(harness: IngestHarness) -> None:
    harness.settings["ingest_settle_seconds"] = 60
    (harness.root / "door").mkdir()
    async with harness.running():
        await until_scanned(harness)
        harness.drop("door/one.jpg", jpeg("one"))
        (harness.root / "door" / "two.jpg").write_bytes(jpeg("two"))
        (harness.root / "door" / "three.part").write_bytes(jpeg("three"))
        os.rename(harness.root / "door" / "three.part", harness.root / "door" / "three.jpg")
        await until(lambda: harness.paths == ["door/one.jpg", "door/two.jpg", "door/three.jpg"])


async def test_a_slow_write_with_pauses_is_one_photo(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.settings["ingest_settle_seconds"] = 0.05
    (harness.root / "door").mkdir()
    content = jpeg("slow", pixels=b"\x12" * 5000)
    async with harness.running():
        await until_scanned(harness)
        with (harness.root / "door" / "slow.jpg").open("wb", buffering=0) as camera:
            for start in range(0, len(content), 2000):
                camera.write(content[start : start + 2000])
                await until_checked(monkeypatch, harness.root / "door" / "slow.jpg")
                assert not harness.bus.media
                assert not harness.idle
        await until(lambda: harness.idle and harness.bus.media)
    assert harness.bus.media[0].size_bytes == len(content)
    assert harness.rejected == {}


async def test_an_empty_file_that_is_still_open_is_not_rejected(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.settings["ingest_settle_seconds"] = 0.05
    (harness.root / "door").mkdir()
    async with harness.running():
        await until_scanned(harness)
        with (harness.root / "door" / "slow.jpg").open("wb", buffering=0) as camera:
            await until_checked(monkeypatch, harness.root / "door" / "slow.jpg")
            camera.write(jpeg("late"))
        await until(lambda: harness.idle and harness.bus.media)
    assert harness.rejected == {}


async def test_files_in_new_nested_folders_are_not_missed(harness: IngestHarness) -> None:
    async with harness.running():
        await until_scanned(harness)
        for index in range(20):
            folder = harness.root / f"cam{index}" / "2026" / "01" / "05"
            folder.mkdir(parents=True)
            (folder / "photo.jpg").write_bytes(jpeg(str(index)))
        await until(lambda: len(set(harness.paths)) == 20)
        await until(lambda: harness.idle)
    assert len(harness.paths) == 20


async def test_a_folder_moved_in_is_announced_in_capture_order(harness: IngestHarness) -> None:
    prepared = harness.home / "prepared"
    prepared.mkdir()
    for name, mtime in (("a", 3_000), ("b", 1_000), ("c", 2_000)):
        (prepared / f"{name}.jpg").write_bytes(jpeg(name))
        os.utime(prepared / f"{name}.jpg", (1_767_614_400 + mtime, 1_767_614_400 + mtime))
    async with harness.running():
        await until_scanned(harness)
        prepared.rename(harness.root / "door")
        await until(lambda: len(harness.paths) == 3)
    assert harness.paths == ["door/b.jpg", "door/c.jpg", "door/a.jpg"]


async def test_a_photo_in_a_folder_that_is_moved_in_is_not_overtaken(harness: IngestHarness) -> None:
    prepared = harness.home / "prepared"
    prepared.mkdir()
    (prepared / "first.jpg").write_bytes(jpeg("first"))
    os.utime(prepared / "first.jpg", (1_000, 1_000))
    async with harness.running():
        await until_scanned(harness)
        (harness.root / "door" / "here").mkdir(parents=True)
        harness.drop("door/here/before.jpg", jpeg("before"), 999)
        await until(lambda: harness.paths)
        prepared.rename(harness.root / "door" / "new")
        harness.drop("door/here/second.jpg", jpeg("second"), 1_001)
        harness.drop("garage/other.jpg", jpeg("other"), 1_002)
        await until(lambda: len(harness.paths) == 4)
    assert [path for path in harness.paths if path != "garage/other.jpg"] == [
        "door/here/before.jpg",
        "door/new/first.jpg",
        "door/here/second.jpg",
    ]


async def test_one_cameras_photos_are_announced_in_order_of_completion(harness: IngestHarness) -> None:
    names = [f"door/{index:02}.jpg" for index in range(40)]
    (harness.root / "door").mkdir()
    async with harness.running():
        await until_scanned(harness)
        for index, name in enumerate(names):
            # The first ones take the longest to read.
            harness.drop(name, jpeg(name, pixels=b"\x12" * (4_000_000 if index < 3 else 10)))
        await until(lambda: len(harness.paths) == len(names))
    assert harness.paths == names
    assert len(harness.bus.batches) < len(names)


async def test_a_file_changed_in_place_is_a_new_photo(harness: IngestHarness) -> None:
    (harness.root / "door").mkdir()
    async with harness.running():
        await until_scanned(harness)
        for index in range(3):
            (harness.root / "door" / "latest.jpg").write_bytes(jpeg(f"snapshot {index}"))
            await until(lambda expected=index + 1: len(harness.bus.media) == expected)  # type: ignore[misc]
    assert len({media.id for media in harness.bus.media}) == 3


async def test_two_files_with_the_same_content_are_one_media(harness: IngestHarness) -> None:
    async with harness.running():
        await until_scanned(harness)
        harness.drop("door/one.jpg", jpeg("same"))
        harness.drop("door/two.jpg", jpeg("same"))
        harness.drop("garage/one.jpg", jpeg("same"))
        await until(lambda: len(harness.bus.media) == 3)
    ids = {media.file.path: media.id for media in harness.bus.media}
    assert ids["door/one.jpg"] == ids["door/two.jpg"] != ids["garage/one.jpg"]


async def test_system_files_and_temporary_files_are_ignored(harness: IngestHarness) -> None:
    async with harness.running():
        await until_scanned(harness)
        for name in (".hidden.jpg", "x.part", "x.tmp", "Thumbs.db", "desktop.ini", ".git/photo.jpg"):
            harness.drop(f"door/{name}", jpeg(name))
        harness.drop(".cache/photo.jpg", jpeg("c"))
        harness.drop("door/photo.jpg", jpeg("photo"))
        await until(lambda: harness.idle and harness.bus.media)
    assert harness.paths == ["door/photo.jpg"]
    assert harness.rejected == {}


async def test_bad_files_are_rejected_once_and_kept_and_stop_nothing(harness: IngestHarness) -> None:
    harness.settings["ingest_max_bytes"] = 5000
    bad = {
        "door/empty.jpg": (b"", "ZERO_BYTE"),
        "door/cut.jpg": (jpeg("cut")[:-2], "TRUNCATED"),
        "door/text.jpg": (b"hello", "NOT_AN_IMAGE"),
        "door/clip.jpg": (b"\x00\x00\x00\x18ftypisom" + bytes(16), "TRUNCATED"),
        "door/large.jpg": (jpeg(pixels=b"\x12" * 6000), "TOO_MANY_BYTES"),
        "door/bomb.png": (png(50_000, 50_000), "TOO_MANY_PIXELS"),
    }
    async with harness.running():
        await until_scanned(harness)
        for path, (content, _) in bad.items():
            harness.drop(path, content)
        harness.drop("door/good.weird-name", png(mark="good"))
        await until(lambda: harness.idle and len(harness.rejected) == len(bad) and harness.bus.media)
        harness.ingest.worker._to_scan[""] = None  # scans everything again
        harness.ingest.worker._watcher.events.wake()
        await until(lambda: harness.idle)
    assert harness.rejected == {path: reason for path, (_, reason) in bad.items()}
    assert len(harness.bus.rejections) == len(bad)
    assert all((harness.root / path).exists() for path in bad)
    rejection = harness.bus.rejections[0]
    assert (rejection.camera_id, rejection.file.inode) == (
        "door",
        (harness.root / rejection.file.path).stat().st_ino,
    )


@pytest.mark.parametrize("polling", [False, True], ids=["native", "polling"])
async def test_a_photo_that_is_appended_in_parts_is_no_rejection_and_delays_no_other(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch, polling: bool
) -> None:
    """Each part is closed, as by cameras that upload by FTP's APPE."""
    monkeypatch.setattr("ingest_svc.file_importer.UNFINISHED_SECONDS", 60.0)
    harness.settings |= {
        "ingest_polling": polling,
        "ingest_poll_seconds": 0.05,
        "ingest_settle_seconds": 0.05,
    }
    (harness.root / "door").mkdir()
    content, slow = jpeg("slow", pixels=b"\x12" * 5000), harness.root / "door" / "slow.jpg"
    seen = harness_unfinished(harness)
    async with harness.running():
        await until_scanned(harness)
        slow.touch()
        for part in range(6):
            await until(lambda: seen().get("door/slow.jpg") == slow.stat().st_size)
            harness.drop(f"door/{part}.jpg", jpeg(str(part)))
            await until(lambda part=part: f"door/{part}.jpg" in harness.paths)  # type: ignore[misc]
            assert not harness.idle
            with slow.open("ab") as camera:
                camera.write(content[part * 1000 : part * 1000 + 1000] if part < 5 else content[5000:])
        await until(lambda: harness.idle and "door/slow.jpg" in harness.paths)
    assert harness.bus.media[-1].size_bytes == len(content)
    assert harness.rejected == {}


def harness_unfinished(harness: IngestHarness) -> Callable[[], dict[str, int]]:
    """Returns the sizes at which files were found unfinished."""

    def sizes() -> dict[str, int]:
        found = harness.ingest.worker._importer._unfinished
        return {path: unfinished.file.size for path, unfinished in found.items()}

    return sizes


async def test_a_time_in_the_future_does_not_keep_a_cut_off_file_unfinished(harness: IngestHarness) -> None:
    async with harness.running():
        await until_scanned(harness)
        harness.drop("door/cut.jpg", jpeg("cut")[:-2], time.time() + 3600)
        await until(lambda: harness.idle and harness.rejected)
    assert harness.rejected == {"door/cut.jpg": "TRUNCATED"}


async def test_a_rejected_file_is_imported_again_when_it_changes(harness: IngestHarness) -> None:
    async with harness.running():
        await until_scanned(harness)
        file = harness.drop("door/photo.jpg", jpeg("whole")[:-2])
        await until(lambda: harness.rejected)
        with file.open("ab") as rest:
            rest.write(b"\xff\xd9")
        await until(lambda: harness.bus.media)
    assert harness.rejected == {"door/photo.jpg": "TRUNCATED"}


async def test_links_that_lead_out_of_the_cameras_folder_are_rejected(harness: IngestHarness) -> None:
    secret = harness.home / "secret.jpg"
    secret.write_bytes(jpeg("secret"))
    (harness.home / "elsewhere").mkdir()
    (harness.home / "elsewhere" / "other.jpg").write_bytes(jpeg("other"))
    async with harness.running():
        await until_scanned(harness)
        harness.drop("door/real.jpg", jpeg("real"))
        (harness.root / "door" / "out.jpg").symlink_to(secret)
        (harness.root / "door" / "away").symlink_to(harness.home / "elsewhere")
        (harness.root / "door" / "in.jpg").symlink_to(harness.root / "door" / "real.jpg")
        (harness.root / "door" / "circle.jpg").symlink_to(harness.root / "door" / "circle.jpg")
        (harness.root / "linked").symlink_to(harness.home / "elsewhere")
        await until(lambda: harness.idle and len(harness.rejected) == 3 and len(harness.paths) == 2)
    assert harness.rejected == {
        "door/out.jpg": "LINK_OUTSIDE",
        "door/away": "LINK_OUTSIDE",
        "linked": "LINK_OUTSIDE",
    }
    assert sorted(harness.paths) == ["door/in.jpg", "door/real.jpg"]


async def test_files_outside_the_camera_folders_are_rejected(harness: IngestHarness) -> None:
    async with harness.running():
        await until_scanned(harness)
        harness.drop("stray.jpg", jpeg("stray"))
        await until(lambda: harness.rejected)
    assert harness.rejected == {"stray.jpg": "CAMERA_NAME"}
    assert harness.bus.rejections[0].camera_id == ""


async def test_two_folders_with_one_slug_are_one_camera_and_one_rejection(harness: IngestHarness) -> None:
    async with harness.running():
        await until_scanned(harness)
        harness.drop("Front Door/1.jpg", jpeg("1"))
        await until(lambda: harness.paths)
        harness.drop("front door/2.jpg", jpeg("2"))
        harness.drop("front door/3.jpg", jpeg("3"))
        harness.drop("!!!/4.jpg", jpeg("4"))
        await until(lambda: harness.idle and len(harness.rejected) == 2)
        assert harness.paths == ["Front Door/1.jpg"]
        assert harness.rejected == {"front door": "CAMERA_CONFLICT", "!!!": "CAMERA_NAME"}
        shutil.rmtree(harness.root / "Front Door")
        await until(lambda: len(harness.paths) == 3)
    assert {media.camera_id for media in harness.bus.media} == {"front-door"}
    assert len(harness.bus.rejections) == 2


async def test_folders_in_other_scripts_are_cameras_with_their_names(harness: IngestHarness) -> None:
    names = ["カメラ1", "玄関1", "كاميرا"]
    async with harness.running():
        await until_scanned(harness)
        for name in names:
            harness.drop(f"{name}/1.jpg", jpeg("same"))
        await until(lambda: harness.idle and len(harness.bus.media) == 3)
    assert {media.camera_name for media in harness.bus.media} == set(names)
    assert len({media.camera_id for media in harness.bus.media}) == 3
    assert harness.rejected == {}


async def test_a_vanished_file_is_no_error(harness: IngestHarness) -> None:
    async with harness.running():
        await until_scanned(harness)
        for index in range(30):
            harness.drop(f"door/{index}.jpg", jpeg(str(index))).unlink()
        harness.drop("door/last.jpg", jpeg("last"))
        await until(lambda: harness.idle and "door/last.jpg" in harness.paths)
    assert harness.rejected == {}


async def test_names_that_are_not_unicode_are_accepted(harness: IngestHarness) -> None:
    async with harness.running():
        await until_scanned(harness)
        harness.drop(os.fsdecode(b"door/caf\xe9.jpg"), jpeg("latin"))
        await until(lambda: harness.idle and harness.bus.media)
    assert harness.paths == ["door/caf\\xe9.jpg"]
