"""Which folder belongs to which camera."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_svc.rejection import RejectReason
from ingest_svc.watching.camera_folders import CAMERA_ID, CameraFolders, slug


def test_the_first_by_name_is_the_camera_and_the_other_is_rejected_once() -> None:
    folders = CameraFolders()
    change = folders.update(["front door", "Front Door", "garage"])
    assert change.added == ["Front Door", "garage"]
    assert {name: cause.reason for name, cause in change.rejected.items()} == {
        "front door": RejectReason.CAMERA_CONFLICT
    }
    assert folders.camera("Front Door") == "front-door"
    assert folders.camera("front door") is None
    assert folders.folder("front-door") == "Front Door"
    again = folders.update(["front door", "Front Door", "garage"])
    assert (again.added, again.rejected) == ([], {})


def test_a_folder_keeps_its_camera_when_an_earlier_name_appears() -> None:
    folders = CameraFolders()
    folders.update(["front door"])
    change = folders.update(["Front Door", "front door"])
    assert folders.camera("front door") == "front-door"
    assert list(change.rejected) == ["Front Door"]


def test_another_folder_takes_over_when_a_cameras_folder_is_gone() -> None:
    folders = CameraFolders()
    folders.update(["Front Door", "front door"])
    change = folders.update(["front door"])
    assert change.added == ["front door"]
    assert folders.camera("front door") == "front-door"
    assert folders.camera("Front Door") is None


def test_a_name_without_a_slug_is_rejected_and_known() -> None:
    folders = CameraFolders()
    change = folders.update(["!!!"])
    assert change.rejected["!!!"].reason is RejectReason.CAMERA_NAME
    assert folders.known("!!!")
    assert not folders.known("other")


def test_a_folder_that_appears_again_is_rejected_again() -> None:
    folders = CameraFolders()
    folders.update(["!!!"])
    folders.update([])
    assert list(folders.update(["!!!"]).rejected) == ["!!!"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("front-door", "front-door"),
        ("Front Door", "front-door"),
        ("Garage_2", "garage_2"),
        ("Küche", "kuche"),
        ("Ku\u0308che", "kuche"),  # as macOS stores it
        ("Straße 5", "strasse-5"),
        ("Łódź", "lodz"),
        ("İstanbul", "istanbul"),
        ("Гараж", "garazh"),
        ("Двори\u0306", "dvory"),
        ("Αυλή", "ayli"),
        ("Front - Door!", "front-door"),
        ("_hidden", "hidden"),
        ("a--b_", "a--b_"),
        ("x" * 70, "x" * 63),
        ("!!!", None),
        ("日本", None),
        ("__", None),
        ("\udcff", None),
        ("", None),
    ],
)
def test_names_become_slugs(name: str, expected: str | None) -> None:
    assert slug(name) == expected


@given(st.text(st.characters(codec=None, exclude_characters="/")))
def test_a_slug_is_a_valid_id_and_its_own_slug(name: str) -> None:
    made = slug(name)
    assert made is None or (CAMERA_ID.fullmatch(made) and slug(made) == made)
