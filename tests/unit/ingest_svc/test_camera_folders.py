from ingest_svc.rejection import RejectReason
from ingest_svc.watching.camera_folders import CameraFolders


def test_the_first_by_name_is_the_camera_and_the_other_is_refused_once() -> None:
    folders = CameraFolders()
    change = folders.update(["front door", "Front Door", "garage"])
    assert change.added == ["Front Door", "garage"]
    assert {name: refusal.reason for name, refusal in change.rejected.items()} == {
        "front door": RejectReason.CAMERA_CONFLICT
    }
    assert folders.camera("Front Door") == "front-door"
    assert folders.camera("front door") is None
    assert folders.folder("front-door") == "Front Door"
    again = folders.update(["front door", "Front Door", "garage"])
    assert (again.added, again.rejected) == ([], {})


def test_who_holds_a_camera_keeps_it_against_an_earlier_name() -> None:
    folders = CameraFolders()
    folders.update(["front door"])
    change = folders.update(["Front Door", "front door"])
    assert folders.camera("front door") == "front-door"
    assert list(change.rejected) == ["Front Door"]


def test_a_camera_passes_on_when_its_folder_goes() -> None:
    folders = CameraFolders()
    folders.update(["Front Door", "front door"])
    change = folders.update(["front door"])
    assert change.added == ["front door"]
    assert folders.camera("front door") == "front-door"
    assert folders.camera("Front Door") is None


def test_a_name_without_a_slug_is_refused_and_known() -> None:
    folders = CameraFolders()
    change = folders.update(["!!!"])
    assert change.rejected["!!!"].reason is RejectReason.CAMERA_NAME
    assert folders.known("!!!")
    assert not folders.known("other")


def test_a_refusal_is_told_again_when_the_folder_came_again() -> None:
    folders = CameraFolders()
    folders.update(["!!!"])
    folders.update([])
    assert list(folders.update(["!!!"]).rejected) == ["!!!"]
