"""Which folder belongs to which camera."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_svc.rejection import RejectReason
from ingest_svc.watching.camera_folders import CAMERA_ID, CameraFolders, slug, whole_slug


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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Front Door", "front-door"),
        ("Гараж", "garazh"),
        ("Подъезд", "podezd"),
        ("Küche", "kuche"),
        ("Front - Door!", "front-door"),
        ("!!!", None),
        ("📷", None),
        ("x" * 70, "x" * 63),
        ("\uff11", "1"),  # a wide digit
    ],
)
def test_a_name_of_which_nothing_is_lost_has_its_slug(name: str, expected: str | None) -> None:
    assert whole_slug(name) == expected


def test_names_in_other_scripts_are_kept_apart_and_stay_the_same() -> None:
    names = [
        "カメラ1",
        "玄関1",
        "カメラ",
        "日本",
        "كاميرا",
        "مطبخ",
        "카메라",
        "กล้อง",
        "Küche 玄関",
        "Қора",
        "Ӄ",
        "\udcff",
        "\udcfe",
    ]
    ids = {name: whole_slug(name) for name in names}
    assert len(set(ids.values())) == len(names)
    assert ids["カメラ1"] == "1-ce77cbc5"
    assert ids["日本"] == "camera-cf2abf0c"
    assert whole_slug("x" * 70 + "日") == "x" * 54 + "-" + str(whole_slug("x" * 70 + "日"))[-8:]


@pytest.mark.parametrize(("one", "other"), [("ガ", "カ\u3099"), ("カメラ", "ｶﾒﾗ"), ("Ｃａｍ 日", "cam 日")])
def test_spellings_of_one_name_are_one_camera(one: str, other: str) -> None:
    assert whole_slug(one) == whole_slug(other)


def test_folders_in_other_scripts_are_cameras_of_their_own() -> None:
    folders = CameraFolders()
    change = folders.update(["カメラ1", "玄関1", "1", "日本"])
    assert sorted(change.added) == sorted(["カメラ1", "玄関1", "1", "日本"])
    assert folders.camera("1") == "1"
    assert len({folders.camera(name) for name in change.added}) == 4


def test_a_camera_that_has_its_id_from_an_earlier_version_keeps_it() -> None:
    existing = {"1"}
    folders = CameraFolders(existing.__contains__)
    folders.update(["カメラ1", "玄関1"])  # the second one was rejected then
    assert folders.camera("カメラ1") == "1"
    other = folders.camera("玄関1")
    assert other is not None
    assert other == whole_slug("玄関1")
    existing.add(other)
    again = CameraFolders(existing.__contains__)
    again.update(["玄関1", "カメラ1"])
    assert (again.camera("カメラ1"), again.camera("玄関1")) == ("1", other)


def test_a_new_folder_does_not_take_the_id_of_another_camera() -> None:
    folders = CameraFolders({"1"}.__contains__)
    folders.update(["1", "カメラ1"])
    assert folders.camera("1") == "1"
    assert folders.camera("カメラ1") == whole_slug("カメラ1")


@given(st.text(st.characters(codec=None, exclude_characters="/")))
def test_a_whole_slug_is_a_valid_id_and_its_own(name: str) -> None:
    made = whole_slug(name)
    assert made is None or (CAMERA_ID.fullmatch(made) and whole_slug(made) == made)


@given(st.text(st.characters(codec=None, exclude_characters="/")))
def test_a_slug_is_a_valid_id_and_its_own_slug(name: str) -> None:
    made = slug(name)
    assert made is None or (CAMERA_ID.fullmatch(made) and slug(made) == made)
