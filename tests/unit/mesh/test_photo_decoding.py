"""What cameras write, and other content: the right pixels, or the right reason for a refusal.

tests/contract/test_photo_variants.py has files with flaws and with odd metadata."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mesh.photo_decoding import DecodedPhoto, decode
from mesh.processes.sandbox_child import InputRefused
from tests.support.photos import person_photo, vehicles

SIDE, MAX_PIXELS = 320, 64_000_000


def quadrants(width: int = 640, height: int = 400) -> Image.Image:
    """Upper left red, upper right green, lower left blue, lower right white."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 255, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 255)
    pixels[height // 2 :, width // 2 :] = (255, 255, 255)
    return Image.fromarray(pixels)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def with_orientation(tag: int, form: str = "JPEG") -> bytes:
    """A photo that is upright only after the EXIF orientation `tag` is applied."""
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    image = quadrants() if tag == 1 else quadrants().transpose(stored[tag])
    exif = Image.Exif()
    exif[0x0112] = tag
    return saved(image, form, exif=exif)


def corners(photo: DecodedPhoto) -> list[tuple[int, ...]]:
    height, width = photo.pixels.shape[:2]
    places = [(y, x) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]
    return [tuple(round(c / 255) for c in photo.pixels[place]) for place in places]


UPRIGHT = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)]


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("tag", range(1, 9))
def test_exif_orientation_is_applied(tag: int, form: str) -> None:
    photo = decode(with_orientation(tag, form), SIDE, MAX_PIXELS)
    assert corners(photo) == UPRIGHT
    assert (photo.width, photo.height) == (640, 400)


@pytest.mark.parametrize(
    "content",
    [
        saved(quadrants(), "JPEG"),
        saved(quadrants(), "JPEG", progressive=True),
        saved(quadrants(), "JPEG", subsampling=0),
        saved(quadrants().convert("CMYK"), "JPEG"),
        saved(quadrants(), "PNG"),
        saved(quadrants().convert("RGBA"), "PNG"),
        saved(quadrants().quantize(8), "PNG"),
        saved(quadrants().quantize(8), "PNG", transparency=0),
        saved(quadrants(), "JPEG") + b"what a camera appends" * 20,
    ],
    ids=["jpeg", "progressive", "4:4:4", "cmyk", "png", "rgba", "palette", "transparent palette", "trailer"],
)
def test_every_format_has_the_same_colours(content: bytes) -> None:
    photo = decode(content, SIDE, MAX_PIXELS)
    assert corners(photo) == UPRIGHT
    assert (photo.width, photo.height) == (640, 400)
    assert photo.pixels.dtype == np.uint8


def test_sixteen_bits_keep_their_brightness() -> None:
    grey = Image.fromarray(np.full((40, 60), 0x8012, np.uint16))
    photo = decode(saved(grey, "PNG"), SIDE, MAX_PIXELS)
    assert photo.pixels.shape == (40, 60, 3)
    assert (photo.pixels == 0x80).all()
    colours = np.full((2, 2, 3), [0xFF00, 0x8000, 0x0100]).astype(">u2")
    assert decode(png(2, 2, 16, 2, colours.tobytes()), SIDE, MAX_PIXELS).pixels[0, 0].tolist() == [
        0xFF,
        0x80,
        0x01,
    ]


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_grey_becomes_three_equal_channels(form: str) -> None:
    grey = Image.fromarray(np.full((64, 64), 90, np.uint8))
    assert np.abs(decode(saved(grey, form), SIDE, MAX_PIXELS).pixels.astype(int) - 90).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 5000), (5000, 1), (3, 2), (2400, 1600), (640, 8)])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_any_shape_is_decoded_and_large_jpegs_are_scaled_down(width: int, height: int, form: str) -> None:
    photo = decode(saved(Image.new("RGB", (width, height), (0, 128, 255)), form), SIDE, MAX_PIXELS)
    assert (photo.width, photo.height) == (width, height)
    shape = photo.pixels.shape
    assert max(shape) >= min(SIDE, max(width, height))
    if form == "JPEG":
        assert max(shape) < 2 * SIDE or max(width, height) / max(shape) >= 8
    assert np.abs(photo.pixels.astype(int) - (0, 128, 255)).max() <= 3


def png(width: int, height: int, depth: int, kind: int, rows: bytes) -> bytes:
    """A PNG; `rows` has no filter bytes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    stride = len(rows) // height
    lines = b"".join(b"\0" + rows[row * stride : (row + 1) * stride] for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def refusal(content: bytes, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(InputRefused) as refused:
        decode(content, SIDE, max_pixels)
    assert refused.value.message
    return refused.value.reason


def jpeg() -> bytes:
    return person_photo().read_bytes()


def whole_png() -> bytes:
    return vehicles()[0].read_bytes()


@pytest.mark.parametrize("kept", [0.02, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("whole", [jpeg, whole_png])
def test_a_file_that_ends_too_early_is_truncated(whole: Callable[[], bytes], kept: float) -> None:
    content = whole()
    assert refusal(content[: int(len(content) * kept)]) == "TRUNCATED"


@pytest.mark.parametrize("missing", [1, 2, 20])
def test_a_file_without_its_end_marker_is_truncated(missing: int) -> None:
    assert refusal(jpeg()[:-missing]) == "TRUNCATED"


def test_a_hole_in_a_png_is_corruption() -> None:
    content = bytearray(whole_png())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    assert refusal(bytes(content)) == "CORRUPT"


def test_a_hole_in_a_jpeg_leaves_the_rest_of_the_photo() -> None:
    content = bytearray(jpeg())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    whole, damaged = decode(jpeg(), SIDE, MAX_PIXELS), decode(bytes(content), SIDE, MAX_PIXELS)
    upper = whole.pixels.shape[0] // 3
    assert (whole.pixels[:upper] == damaged.pixels[:upper]).all()
    assert damaged.pixels.shape == whole.pixels.shape


def test_a_damaged_header_is_corruption() -> None:
    content = bytearray(jpeg())
    start = content.index(b"\xff\xc0")
    for components in (77, 2, 1):
        content[start + 9] = components
        assert refusal(bytes(content)) == "CORRUPT"
    assert refusal(whole_png()[:8] + bytes(8) + b"\0\0\0\0\0\0\0\1" + whole_png()[24:]) == "CORRUPT"


@pytest.mark.parametrize(
    "content",
    [b"GIF89a" + bytes(100), b"hello", b"\xff\xd8", b"\x89PNG", b"RIFF0000WEBPVP8 ", b"<svg/>", bytes(4096)],
)
def test_other_content_is_not_an_image(content: bytes) -> None:
    assert refusal(content) == "NOT_AN_IMAGE"


def test_empty_content_is_zero_bytes() -> None:
    assert refusal(b"") == "ZERO_BYTE"


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    content = bytearray(jpeg())
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = struct.pack(">HH", 60_000, 60_000)
    assert refusal(bytes(content)) == "TOO_MANY_PIXELS"
    header = whole_png()[12:16] + struct.pack(">II", 2**31 - 1, 2**31 - 1) + whole_png()[24:29]
    bomb = whole_png()[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole_png()[33:]
    assert refusal(bomb) == "TOO_MANY_PIXELS"


def test_the_limit_of_pixels_is_inclusive() -> None:
    content = saved(quadrants(100, 50), "PNG")
    assert decode(content, SIDE, 5000).width == 100
    assert refusal(content, 4999) == "TOO_MANY_PIXELS"


def test_a_warning_that_costs_no_pixel_is_ignored() -> None:
    content = bytearray(saved(quadrants(), "JPEG"))
    scan = content.index(b"\xff\xda")
    length = int.from_bytes(content[scan + 2 : scan + 4], "big")
    content[scan + length] = 0  # the last coefficient of the scan, as some cameras write it
    assert corners(decode(bytes(content), SIDE, MAX_PIXELS)) == UPRIGHT
    assert refusal(bytes(content[:-2])) == "TRUNCATED"


@given(st.data())
def test_bytes_flipped_anywhere_are_pixels_or_a_refusal(data: st.DataObject) -> None:
    whole = SMALL[data.draw(st.sampled_from(sorted(SMALL)))]
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        outcome = "PIXELS" if decode(bytes(content), SIDE, 1_000_000).pixels.size else "NONE"
    except InputRefused as refused:
        outcome = refused.reason
    assert outcome in {"PIXELS", "CORRUPT", "TRUNCATED", "NOT_AN_IMAGE", "TOO_MANY_PIXELS"}


SMALL = {
    "jpeg": with_orientation(6),
    "png": saved(quadrants(64, 40), "PNG"),
    "palette": saved(quadrants(64, 40).quantize(8), "PNG"),
}


@pytest.mark.parametrize(
    "inserted", [b"\xff\x2d", b"\xff\xd8", b"\xff\xf5\0\0", b"\xff\xda\0\3", b"\xff\xc4\0\4\0\0"]
)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_photo_that_is_not_decoded_to_its_last_row_is_refused(
    inserted: bytes, options: dict[str, object], part: float
) -> None:
    """Its pixels would be whatever was in the memory: another photo."""
    whole = saved(Image.effect_noise((640, 400), 60).convert("RGB"), "JPEG", **options)
    start = whole.index(b"\xff\xda") + 20
    at = start + int((len(whole) - start) * part)
    content = whole[:at] + inserted + whole[at:]
    try:
        Image.open(io.BytesIO(content)).load()
    except OSError:
        assert refusal(content) in ("CORRUPT", "TRUNCATED")
    else:
        assert decode(content, SIDE, MAX_PIXELS).width == 640
