"""Thumbnails, pixel by pixel where it matters."""

import io

import pytest
from PIL import Image

from gateway.drawing import COLOURS, draw
from mesh.child import Refused

GREY = (128, 128, 128)
MOST = 10_000_000


def photo(size: tuple[int, int] = (800, 400), kind: str = "JPEG", orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    written = io.BytesIO()
    Image.new("RGB", size, GREY).save(written, kind, exif=exif)
    return written.getvalue()


def look(picture: bytes) -> Image.Image:
    opened = Image.open(io.BytesIO(picture))
    assert opened.format == "JPEG"
    return opened.convert("RGB")


def near(seen: object, colour: tuple[int, int, int]) -> bool:
    assert isinstance(seen, tuple)
    return all(abs(a - b) < 60 for a, b in zip(seen, colour, strict=True))


@pytest.mark.parametrize(
    ("size", "small"),
    [((800, 400), (640, 320)), ((400, 800), (320, 640)), ((100, 50), (100, 50)), ((3000, 3), (640, 1))],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_it_fits_and_is_never_enlarged(size: tuple[int, int], small: tuple[int, int], kind: str) -> None:
    assert look(draw(photo(size, kind), [], MOST)).size == small


def test_boxes_lie_on_the_upright_photo() -> None:
    """Stored lying on its side; the box is the upper left quarter of the upright picture."""
    picture = look(draw(photo((800, 400), orientation=6), [("dog", 0.9, 0.0, 0.0, 0.5, 0.5)], MOST))
    assert picture.size == (320, 640)
    assert near(picture.getpixel((80, 318)), COLOURS["dog"])
    assert near(picture.getpixel((158, 200)), COLOURS["dog"])
    assert near(picture.getpixel((250, 500)), GREY)


def test_the_best_is_drawn_on_top() -> None:
    boxes = [("person", 0.9, 0.2, 0.4, 0.8, 0.8), ("car", 0.5, 0.2, 0.4, 0.8, 0.8)]
    for order in (boxes, boxes[::-1]):
        picture = look(draw(photo(), order, MOST))
        assert near(picture.getpixel((129, 200)), COLOURS["person"])


@pytest.mark.parametrize(
    "box",
    [
        ("person", 1.0, 0.0, 0.0, 1.0, 1.0),
        ("person", 0.5, -1.0, -1.0, 2.0, 2.0),
        ("person", 0.5, 0.9, 0.9, 0.1, 0.1),
        ("person", 0.5, 1.0, 1.0, 1.0, 1.0),
        ("a class that nobody knows ☂ " * 5, 0.5, 0.99, 0.0, 1.0, 0.01),
    ],
)
def test_no_box_is_too_odd_to_be_drawn(box: tuple[str, float, float, float, float, float]) -> None:
    assert look(draw(photo(), [box], MOST)).size == (640, 320)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing",
        photo()[:-500] + b"",
        photo((800, 400), "PNG")[:100],
        photo((4000, 4000)),
        b"GIF89a" + bytes(50),
    ],
    ids=["empty", "text", "cut jpeg", "cut png", "too many pixels", "gif"],
)
def test_what_is_no_photo_is_refused(content: bytes) -> None:
    with pytest.raises(Refused) as refused:
        draw(content, [], MOST)
    assert refused.value.reason == "NOT_DRAWABLE"
