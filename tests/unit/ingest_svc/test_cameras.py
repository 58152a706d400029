"""Cameras that are made, deleted, disabled and enabled by the API."""

from zoneinfo import ZoneInfo

import pytest

from ingest_svc.admission import Admission
from ingest_svc.fingerprint import Fingerprint
from ingest_svc.folders import Folders
from ingest_svc.photo import Camera
from mesh.problems import Conflict
from tests.support.waiting import until
from tests.unit.ingest_svc.house import FakeCameras, House
from tests.unit.ingest_svc.photos import jpeg, tiff


async def test_a_camera_made_by_the_api_gets_a_folder(house: House) -> None:
    house.cameras.configure("before")
    async with house.running():
        await until(lambda: house.idle)
        assert (house.root / "before").is_dir()
        house.cameras.configure("porch")
        await until((house.root / "porch").is_dir)
        (house.root / "porch" / "one.jpg").write_bytes(jpeg("one"))
        await until(lambda: house.paths == ["porch/one.jpg"])


async def test_no_folder_is_made_where_one_of_that_slug_is(house: House) -> None:
    (house.root / "Front Door").mkdir()
    house.cameras.configure("front-door")
    async with house.running():
        await until(lambda: house.idle)
        house.cameras.configure("front-door", time_zone="Europe/Berlin")
        house.drop("Front Door/one.jpg", jpeg("one"))
        await until(lambda: house.idle and house.paths)
    assert not (house.root / "front-door").exists()


async def test_a_deleted_cameras_folder_is_ignored_until_it_is_made_again(house: House) -> None:
    house.cameras.configure("door", deleted=True)
    house.drop("door/one.jpg", jpeg("one"), mtime=1_000)
    async with house.running():
        await until(lambda: house.idle)
        house.drop("door/two.jpg", jpeg("two"), mtime=2_000)
        house.drop("door/bad.jpg", b"bad")
        house.drop("garage/one.jpg", jpeg("other"))
        await until(lambda: house.idle and house.paths)
        assert house.paths == ["garage/one.jpg"]
        house.cameras.configure("door")
        await until(lambda: house.idle and len(house.paths) == 3)
    assert house.paths == ["garage/one.jpg", "door/one.jpg", "door/two.jpg"]
    assert house.refused == {"door/bad.jpg": "NOT_AN_IMAGE"}


async def test_what_was_announced_of_a_camera_just_deleted_is_announced_when_it_is_made_again(
    house: House,
) -> None:
    """We hear of a deletion a little late; the store drops what we announce meanwhile."""
    house.cameras.configure("door")
    async with house.running():
        await until(lambda: house.idle)
        house.drop("door/kept.jpg", jpeg("kept"))
        house.drop("door/dropped.jpg", jpeg("dropped"))
        await until(lambda: house.idle and len(house.paths) == 2)
        house.store.knows(house.root, "door/kept.jpg")
        house.cameras.configure("door", time_zone="Asia/Tokyo")  # changes nothing
        house.cameras.configure("door", made=2)
        await until(lambda: house.idle and len(house.paths) == 3)
    assert house.paths == ["door/kept.jpg", "door/dropped.jpg", "door/dropped.jpg"]


async def test_a_disabled_cameras_files_wait_until_it_is_enabled(house: House) -> None:
    async with house.running():
        await until(lambda: house.idle)
        house.drop("door/one.jpg", jpeg("one"))
        await until(lambda: house.paths)
        house.cameras.configure("door", enabled=False)
        house.drop("door/two.jpg", jpeg("two"))
        await until(lambda: house.ingest.worker._admission.left_alone == {"door"})
        await until(lambda: house.idle)
        house.cameras.configure("door", enabled=True)
        await until(lambda: house.idle and len(house.paths) == 2)
    assert house.paths == ["door/one.jpg", "door/two.jpg"]


async def test_exif_is_read_in_the_cameras_own_zone(house: House) -> None:
    house.cameras.configure("porch", time_zone="America/New_York")
    house.settings["time_zone"] = "Europe/Berlin"
    exif = tiff("2026:01:05 12:00:00", fraction="5")
    async with house.running():
        house.drop("porch/a.jpg", jpeg("a", exif=exif))
        house.drop("yard/b.jpg", jpeg("b", exif=exif))
        await until(lambda: house.idle and len(house.paths) == 2)
    hours = {media.camera_id: media.captured_at.ToJsonString() for media in house.bus.media}
    assert hours == {"porch": "2026-01-05T17:00:00.500Z", "yard": "2026-01-05T11:00:00.500Z"}


def test_a_zone_that_nobody_knows_is_the_hosts() -> None:
    cameras, folders = FakeCameras(), Folders()
    folders.look(["door"])
    cameras.configure("door", time_zone="Mars/Olympus")
    admission = Admission(folders, cameras, "Asia/Tokyo")
    assert admission.of_file(Fingerprint("door/a.jpg")) == Camera("door", "door", ZoneInfo("Asia/Tokyo"))


def test_uploads_for_deleted_or_disabled_cameras_are_refused() -> None:
    cameras = FakeCameras()
    admission = Admission(Folders(), cameras, "UTC")
    assert admission.of_upload("new").id == "new"
    cameras.configure("gone", deleted=True)
    cameras.configure("off", enabled=False)
    for camera_id, reason in (("gone", "CAMERA_DELETED"), ("off", "CAMERA_DISABLED")):
        with pytest.raises(Conflict) as refused:
            admission.of_upload(camera_id)
        assert refused.value.reason == reason
