import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_svc.watching.camera_folders import CAMERA_ID, slug


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
def test_a_slug_is_a_slug_or_none_and_stays_itself(name: str) -> None:
    made = slug(name)
    assert made is None or (CAMERA_ID.fullmatch(made) and slug(made) == made)
