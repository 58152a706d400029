"""Text from outside, for terminals and messages."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

from mesh.visible_text import visible, without_addresses


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Küche 玄関 👩‍👩‍👧", "Küche 玄関 👩‍👩‍👧"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x7f\x9b1m", r"\x7f\x9b1m"),
        ("\u202egpj.exe\u2066\u2028", r"\u202egpj.exe\u2066\u2028"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_lines_can_be_kept() -> None:
    assert visible("a\n\tb\r\x1b", keep_lines=True) == "a\n\tb\\r\\x1b"


@given(st.text(st.characters(exclude_categories=())))
def test_visible_text_is_one_line_that_can_be_encoded(text: str) -> None:
    shown = visible(text)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert visible(shown) == shown


def test_the_address_of_an_object_is_left_out() -> None:
    with pytest.raises(UnidentifiedImageError) as error:
        Image.open(io.BytesIO(b"no image"))
    assert without_addresses(str(error.value)) == "cannot identify image file"
    assert without_addresses(f"{object()} and {open}") == f" and {open}"
    assert without_addresses("1 < 2 at 0x10 > 1") == "1 < 2 at 0x10 > 1"
    for one in (lambda: 0, io.BytesIO().read, iter(()), type("A<B>", (), {})()):
        assert "0x" not in without_addresses(f"it failed: {one}")
