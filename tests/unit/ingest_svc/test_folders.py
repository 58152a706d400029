from ingest_svc.folders import Folders
from ingest_svc.refusal import Reason


def test_the_first_by_name_is_the_camera_and_the_other_is_refused_once() -> None:
    folders = Folders()
    change = folders.look(["front door", "Front Door", "garage"])
    assert change.gained == ["Front Door", "garage"]
    assert {name: refusal.reason for name, refusal in change.refused.items()} == {
        "front door": Reason.CAMERA_CONFLICT
    }
    assert folders.camera("Front Door") == "front-door"
    assert folders.camera("front door") is None
    assert folders.folder("front-door") == "Front Door"
    again = folders.look(["front door", "Front Door", "garage"])
    assert (again.gained, again.refused) == ([], {})


def test_who_holds_a_camera_keeps_it_against_an_earlier_name() -> None:
    folders = Folders()
    folders.look(["front door"])
    change = folders.look(["Front Door", "front door"])
    assert folders.camera("front door") == "front-door"
    assert list(change.refused) == ["Front Door"]


def test_a_camera_passes_on_when_its_folder_goes() -> None:
    folders = Folders()
    folders.look(["Front Door", "front door"])
    change = folders.look(["front door"])
    assert change.gained == ["front door"]
    assert folders.camera("front door") == "front-door"
    assert folders.camera("Front Door") is None


def test_a_name_without_a_slug_is_refused_and_known() -> None:
    folders = Folders()
    change = folders.look(["!!!"])
    assert change.refused["!!!"].reason is Reason.CAMERA_NAME
    assert folders.known("!!!")
    assert not folders.known("other")


def test_a_refusal_is_told_again_when_the_folder_came_again() -> None:
    folders = Folders()
    folders.look(["!!!"])
    folders.look([])
    assert list(folders.look(["!!!"]).refused) == ["!!!"]
