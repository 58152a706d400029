"""Thumbnails: size, boxes, and refused input."""

import io
from pathlib import Path

import pytest
from PIL import Image

from gateway.http import thumbnail_renderer
from mesh.boxes import LabelledBox
from mesh.picture_drawing import COLOURS
from mesh.processes.sandbox_child import InputRefused

GREY = (128, 128, 128)
MOST = 10_000_000


def photo(size: tuple[int, int] = (800, 400), kind: str = "JPEG", orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    written = io.BytesIO()
    Image.new("RGB", size, GREY).save(written, kind, exif=exif)
    return written.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "photo"


def draw(file: Path, content: bytes, boxes: list[LabelledBox]) -> bytes:
    file.write_bytes(content)
    return thumbnail_renderer.render(str(file), boxes, MOST)


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
def test_thumbnails_fit_and_are_never_enlarged(
    file: Path, size: tuple[int, int], small: tuple[int, int], kind: str
) -> None:
    assert look(draw(file, photo(size, kind), [])).size == small


def test_boxes_are_drawn_on_the_upright_photo(file: Path) -> None:
    """The photo is stored rotated. The box is the upper left quarter of the upright photo."""
    picture = look(draw(file, photo((800, 400), orientation=6), [("dog", 0.9, 0.0, 0.0, 0.5, 0.5)]))
    assert picture.size == (320, 640)
    assert near(picture.getpixel((80, 318)), COLOURS["dog"])
    assert near(picture.getpixel((158, 200)), COLOURS["dog"])
    assert near(picture.getpixel((250, 500)), GREY)


def test_the_best_detection_is_drawn_on_top(file: Path) -> None:
    boxes: list[LabelledBox] = [("person", 0.9, 0.2, 0.4, 0.8, 0.8), ("car", 0.5, 0.2, 0.4, 0.8, 0.8)]
    for order in (boxes, boxes[::-1]):
        picture = look(draw(file, photo(), order))
        assert near(picture.getpixel((129, 200)), COLOURS["person"])


@pytest.mark.parametrize(
    "box",
    [
        ("person", 1.0, 0.0, 0.0, 1.0, 1.0),
        ("person", 0.5, -1.0, -1.0, 2.0, 2.0),
        ("person", 0.5, 0.9, 0.9, 0.1, 0.1),
        ("person", 0.5, 1.0, 1.0, 1.0, 1.0),
        ("an unknown class ☂ " * 5, 0.5, 0.99, 0.0, 1.0, 0.01),
    ],
)
def test_unusual_boxes_are_drawn(file: Path, box: LabelledBox) -> None:
    assert look(draw(file, photo(), [box])).size == (640, 320)


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
def test_input_that_is_not_a_photo_is_refused(file: Path, content: bytes) -> None:
    with pytest.raises(InputRefused) as refused:
        draw(file, content, [])
    assert refused.value.reason == "NOT_DRAWABLE"


def test_a_missing_photo_is_refused(file: Path) -> None:
    with pytest.raises(InputRefused) as refused:
        thumbnail_renderer.render(str(file), [], MOST)
    assert refused.value.reason == "BLOB_NOT_FOUND"
