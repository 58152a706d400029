"""Cameras that the API creates, deletes, disables and enables."""

from zoneinfo import ZoneInfo

import pytest

from ingest_svc.admission import Admission
from ingest_svc.facts import SourceCamera
from ingest_svc.fingerprint import Fingerprint
from ingest_svc.watching.camera_folders import CameraFolders
from lares.ingest.v1.media_pb2 import CapturedAtSource
from mesh.permissions import UPLOAD
from mesh.problems import Conflict, Denied
from mesh.security import EVERYBODY, Caller
from tests.support.image_files import jpeg, png, tiff
from tests.support.ingest_harness import FakeCameras, IngestHarness
from tests.support.waiting import until


async def test_a_camera_created_by_the_api_gets_a_folder(harness: IngestHarness) -> None:
    harness.cameras.configure("before")
    async with harness.running():
        await until(lambda: harness.idle)
        assert (harness.root / "before").is_dir()
        harness.cameras.configure("porch")
        await until((harness.root / "porch").is_dir)
        (harness.root / "porch" / "one.jpg").write_bytes(jpeg("one"))
        await until(lambda: harness.paths == ["porch/one.jpg"])


async def test_no_folder_is_made_if_one_with_that_slug_exists(harness: IngestHarness) -> None:
    (harness.root / "Front Door").mkdir()
    harness.cameras.configure("front-door")
    async with harness.running():
        await until(lambda: harness.idle)
        harness.cameras.configure("front-door", time_zone="Europe/Berlin")
        harness.drop("Front Door/one.jpg", jpeg("one"))
        await until(lambda: harness.idle and harness.paths)
    assert not (harness.root / "front-door").exists()


async def test_a_deleted_cameras_folder_is_ignored_until_the_camera_is_created_again(
    harness: IngestHarness,
) -> None:
    harness.cameras.configure("door", deleted=True)
    harness.drop("door/one.jpg", jpeg("one"), mtime=1_000)
    async with harness.running():
        await until(lambda: harness.idle)
        harness.drop("door/two.jpg", jpeg("two"), mtime=2_000)
        harness.drop("door/bad.jpg", b"bad")
        harness.drop("garage/one.jpg", jpeg("other"))
        await until(lambda: harness.idle and harness.paths)
        assert harness.paths == ["garage/one.jpg"]
        harness.cameras.configure("door")
        await until(lambda: harness.idle and len(harness.paths) == 3)
    assert harness.paths == ["garage/one.jpg", "door/one.jpg", "door/two.jpg"]
    assert harness.rejected == {"door/bad.jpg": "NOT_AN_IMAGE"}


async def test_photos_of_a_camera_that_is_deleted_and_created_again_are_announced_again(
    harness: IngestHarness,
) -> None:
    """ingest_svc hears of a deletion a little late, and the store drops what it announces meanwhile."""
    harness.cameras.configure("door")
    async with harness.running():
        await until(lambda: harness.idle)
        harness.drop("door/kept.jpg", jpeg("kept"))
        harness.drop("door/dropped.jpg", jpeg("dropped"))
        await until(lambda: harness.idle and len(harness.paths) == 2)
        harness.known_files.add(harness.root, "door/kept.jpg")
        harness.cameras.configure("door", time_zone="Asia/Tokyo")  # changes nothing
        harness.cameras.configure("door", created=2)
        await until(lambda: harness.idle and len(harness.paths) == 3)
    assert harness.paths == ["door/kept.jpg", "door/dropped.jpg", "door/dropped.jpg"]


async def test_a_disabled_cameras_files_wait_until_it_is_enabled(harness: IngestHarness) -> None:
    async with harness.running():
        await until(lambda: harness.idle)
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.paths)
        harness.cameras.configure("door", enabled=False)
        harness.drop("door/two.jpg", jpeg("two"))
        await until(lambda: harness.ingest.worker._admission.skipped == {"door"})
        await until(lambda: harness.idle)
        harness.cameras.configure("door", enabled=True)
        await until(lambda: harness.idle and len(harness.paths) == 2)
    assert harness.paths == ["door/one.jpg", "door/two.jpg"]


async def test_exif_times_are_in_the_time_zone_of_the_camera(harness: IngestHarness) -> None:
    harness.cameras.configure("porch", time_zone="America/New_York")
    harness.settings["time_zone"] = "Europe/Berlin"
    exif = tiff("2026:01:05 12:00:00", fraction="5")
    async with harness.running():
        harness.drop("porch/a.jpg", jpeg("a", exif=exif))
        harness.drop("yard/b.png", png(mark="b", extra=[(b"eXIf", exif)]))
        await until(lambda: harness.idle and len(harness.paths) == 2)
    hours = {media.camera_id: media.captured_at.ToJsonString() for media in harness.bus.media}
    assert hours == {"porch": "2026-01-05T17:00:00.500Z", "yard": "2026-01-05T11:00:00.500Z"}


async def test_an_unset_clock_is_recorded_as_a_claim_and_the_ctime_counts_after_a_restart_too(
    harness: IngestHarness,
) -> None:
    file = harness.drop("door/one.jpg", jpeg("one", exif=tiff("2016:01:01 00:03:00")), 1_767_614_400)
    harness.drop("door/two.jpg", jpeg("two", exif=tiff("2019:07:14 12:00:00")))
    for _ in range(2):
        async with harness.running():
            await until(lambda: harness.idle)
    arrived = file.stat().st_ctime_ns // 1000 * 1000
    for one in (media for media in harness.bus.media if media.file.path == "door/one.jpg"):
        assert one.captured_at.ToNanoseconds() == arrived
        assert one.captured_at_source == CapturedAtSource.CAPTURED_AT_SOURCE_CTIME
        assert one.claimed_captured_at.ToJsonString() == "2016-01-01T00:03:00Z"
    archived = next(media for media in harness.bus.media if media.file.path == "door/two.jpg")
    assert archived.captured_at.ToJsonString() == "2019-07-14T12:00:00Z"
    assert not archived.HasField("claimed_captured_at")
    assert len(harness.bus.media) == 4


async def test_a_strict_tolerance_believes_no_time_far_from_the_arrival(harness: IngestHarness) -> None:
    harness.settings["ingest_clock_tolerance_seconds"] = 3600
    async with harness.running():
        harness.drop("door/two.jpg", jpeg("two", exif=tiff("2019:07:14 12:00:00")))
        await until(lambda: harness.idle and harness.bus.media)
    (media,) = harness.bus.media
    assert media.captured_at_source == CapturedAtSource.CAPTURED_AT_SOURCE_CTIME
    assert media.claimed_captured_at.ToJsonString() == "2019-07-14T12:00:00Z"


def test_an_unknown_time_zone_means_the_default_one() -> None:
    cameras, folders = FakeCameras(), CameraFolders()
    folders.update(["door"])
    cameras.configure("door", time_zone="Mars/Olympus")
    admission = Admission(folders, cameras, "Asia/Tokyo")
    assert admission.of_file(Fingerprint("door/a.jpg")) == SourceCamera(
        "door", "door", ZoneInfo("Asia/Tokyo")
    )


def test_uploads_for_deleted_or_disabled_cameras_are_rejected() -> None:
    cameras = FakeCameras()
    admission = Admission(CameraFolders(), cameras, "UTC")
    assert admission.of_upload("new", EVERYBODY).id == "new"
    cameras.configure("gone", deleted=True)
    cameras.configure("off", enabled=False)
    for camera_id, reason in (("gone", "CAMERA_DELETED"), ("off", "CAMERA_DISABLED")):
        with pytest.raises(Conflict) as raised:
            admission.of_upload(camera_id, EVERYBODY)
        assert raised.value.reason == reason


def test_the_key_of_a_camera_is_admitted_for_that_camera_alone() -> None:
    admission = Admission(CameraFolders(), FakeCameras(), "UTC")
    porch = Caller.of_key("1", "the porch's", frozenset({UPLOAD}), "porch")
    assert admission.of_upload("porch", porch).id == "porch"
    for other in ("door", "porch2", "Porch", ""):
        with pytest.raises(Denied) as refused:
            admission.of_upload(other, porch)
        assert refused.value.reason == "OTHER_CAMERA"
