"""EXIF and XMP of JPEG and PNG files, malformed ones included."""

import io
import struct
import warnings
import zlib
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mesh.image_headers import MAX_CHUNKS, FileBytes, ImageFormat
from mesh.image_metadata import MAX_METADATA_BYTES, ExifTime, exif_time, orientation
from tests.support.image_files import jpeg, png, tiff, with_chunks, with_segments

JPEG, PNG = ImageFormat.JPEG, ImageFormat.PNG


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_read_in_both_byte_orders(order: str) -> None:
    content = jpeg(exif=tiff("2026:05:04 03:02:01", "+05:30", "25", order))
    assert exif_time(content, JPEG) == ExifTime(
        datetime(2026, 5, 4, 3, 2, 1, 250_000), timedelta(hours=5, minutes=30)
    )


def test_exif_of_a_real_encoder_is_read() -> None:
    photo, exif = Image.new("RGB", (8, 8)), Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2026:05:04 03:02:01"
    exif.get_ifd(0x8769)[0x9291] = "123456789"
    exif.get_ifd(0x8769)[0x9011] = "-03:00"
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", exif=exif)
    assert exif_time(buffer.getvalue(), JPEG) == ExifTime(
        datetime(2026, 5, 4, 3, 2, 1, 123_456), timedelta(hours=-3)
    )


@pytest.mark.parametrize(
    ("exif", "expected"),
    [
        (tiff("0000:00:00 00:00:00"), None),
        (tiff("    :  :     :  :  "), None),
        (tiff(""), None),
        (b"", None),
        (b"II*\x00\xff\xff\xff\xff", None),
        (tiff("2026:05:04 03:02:01", "nonsense", "x1"), ExifTime(datetime(2026, 5, 4, 3, 2, 1), None)),
    ],
)
def test_malformed_exif_is_ignored(exif: bytes, expected: ExifTime | None) -> None:
    assert exif_time(jpeg(exif=exif), JPEG) == expected


@given(st.binary(max_size=400))
def test_arbitrary_exif_raises_nothing(exif: bytes) -> None:
    exif_time(jpeg(exif=exif), JPEG)
    exif_time(exif, JPEG)
    exif_time(b"\xff\xd8" + exif, JPEG)


@given(st.data())
def test_damaged_exif_raises_nothing(data: st.DataObject) -> None:
    exif = bytearray(tiff("2026:05:04 03:02:01", "+05:30", "25"))
    for _ in range(data.draw(st.integers(1, 6))):
        exif[data.draw(st.integers(0, len(exif) - 1))] = data.draw(st.integers(0, 255))
    read = exif_time(jpeg(exif=bytes(exif)), JPEG)
    assert read is None or isinstance(read, ExifTime)


def orientation_tiff(value: int, order: str) -> bytes:
    head = (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(f"{order}I", 8)
    return head + struct.pack(f"{order}HHHIHH", 1, 0x0112, 3, 1, value, 0) + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("value", "expected"), [(1, 1), (6, 6), (8, 8), (0, 1), (9, 1), (65535, 1)])
def test_the_orientation_is_read_and_invalid_values_mean_upright(
    value: int, expected: int, order: str
) -> None:
    assert orientation(jpeg(exif=orientation_tiff(value, order)), JPEG) == expected


def test_a_photo_without_exif_is_upright_and_has_no_time() -> None:
    assert orientation(jpeg(), JPEG) == 1
    assert exif_time(jpeg(), JPEG) is None


@given(st.binary(max_size=400))
def test_arbitrary_headers_have_a_valid_orientation(noise: bytes) -> None:
    assert 1 <= orientation(noise, JPEG) <= 8
    assert 1 <= orientation(b"\xff\xd8" + noise, JPEG) <= 8
    assert 1 <= orientation(jpeg(exif=noise), JPEG) <= 8
    assert 1 <= orientation(jpeg(exif=b"II*\x00\x08\x00\x00\x00" + noise), JPEG) <= 8


def test_the_time_of_a_png_is_in_its_exif_chunk() -> None:
    exif = tiff("2026:05:04 03:02:01", "+05:30", "25")
    taken = ExifTime(datetime(2026, 5, 4, 3, 2, 1, 250_000), timedelta(hours=5, minutes=30))
    profile = b"\nexif\n%8d\n%s\n" % (len(exif) + 6, (b"Exif\x00\x00" + exif).hex().encode())
    name = b"Raw profile type exif\x00"
    for chunk in (
        (b"eXIf", exif),
        (b"eXIf", b"Exif\x00\x00" + exif),
        (b"tEXt", name + profile),
        (b"zTXt", name + b"\x00" + zlib.compress(profile)),
    ):
        assert exif_time(png(extra=[chunk]), PNG) == taken
    assert exif_time(png(), PNG) is None
    assert exif_time(png(extra=[(b"eXIf", exif[:40])]), PNG) is None


def test_the_time_is_found_wherever_the_file_has_it() -> None:
    exif, taken = tiff("2026:05:04 03:02:01"), ExifTime(datetime(2026, 5, 4, 3, 2, 1), None)
    pixels = [(b"IDAT", bytes(8192))] * 60
    behind = (png(extra=[*pixels, (b"eXIf", exif)]), PNG)
    previews = [(0xE2, bytes(65_000))] * 6
    for content, form in (behind, (with_segments(jpeg(), *previews, (0xE1, b"Exif\x00\x00" + exif)), JPEG)):
        assert exif_time(content, form) == exif_time(on_disk(content), form) == taken


def on_disk(content: bytes) -> FileBytes:
    return FileBytes(lambda start, length: content[start : start + length], len(content))


def test_metadata_that_would_fill_the_memory_are_ignored() -> None:
    exif = tiff("2026:05:04 03:02:01")
    segments = [(0xE1, b"Exif\x00\x00" + exif.ljust(65_000, b"\x00"))] * 70
    assert exif_time(with_segments(jpeg(), *segments), JPEG)
    assert exif_time(with_segments(jpeg(), *[(0xE1, b"x" * 65_000)] * 70, segments[0]), JPEG) is None
    assert exif_time(png(extra=[(b"eXIf", exif.ljust(MAX_METADATA_BYTES + 1, b"\x00"))]), PNG) is None
    assert exif_time(png(extra=[(b"tEXt", b"")] * MAX_CHUNKS + [(b"eXIf", exif)]), PNG) is None


def test_a_malformed_text_does_not_hide_a_sound_one() -> None:
    name, xmp = b"XML:com.adobe.xmp\x00", b'<x tiff:Orientation="%d"/>'
    sound = (b"iTXt", name + bytes(4) + xmp % 6)
    for malformed in (
        b"",
        b"\x00\x00",
        b"\x00\x00\x00" + xmp % 3,  # one separator too few
        b"\x01\x01\x00\x00" + zlib.compress(xmp % 3),  # no known method
        b"\x01\x00\x00\x00" + xmp % 3,  # not compressed
    ):
        assert orientation(png(extra=[sound, (b"iTXt", name + malformed)]), PNG) == 6
        assert orientation(png(extra=[(b"iTXt", name + malformed)]), PNG) == 1


@given(st.binary(max_size=400), st.sampled_from([b"eXIf", b"tEXt", b"zTXt", b"iTXt"]))
def test_arbitrary_chunks_raise_nothing(body: bytes, kind: bytes) -> None:
    for name in (b"", b"Raw profile type exif\x00", b"XML:com.adobe.xmp\x00"):
        content = png(extra=[(kind, name + body)])
        exif_time(content, PNG)
        assert 1 <= orientation(content, PNG) <= 8
    exif_time(body, PNG)
    assert orientation(body, PNG) == 1


def test_a_compressed_text_that_would_fill_the_memory_is_ignored() -> None:
    exif = orientation_tiff(6, "<")
    for size, expected in ((1000, 6), (2**20, 1)):
        text = b"\nexif\n\n" + exif.hex().encode() + b"\n" * size
        chunk = (b"zTXt", b"Raw profile type exif\x00\x00" + zlib.compress(text))
        assert orientation(png(extra=[chunk]), PNG) == expected


TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}
VALUES = {"f": st.sampled_from([0.0, 6.0, 6.5, 8.0]), "d": st.sampled_from([3.0, 2.25, float("nan")])}


@st.composite
def directories(draw: st.DrawFn) -> bytes:
    """A TIFF structure whose directory has entries of any type, most of them sound."""
    order = draw(st.sampled_from("<>"))
    count, entries, outside = draw(st.integers(0, 5)), b"", b""
    for _ in range(count):
        tag = draw(st.sampled_from([0x0100, 0x010F, 0x0112, 0x0112, 0x0132]))
        type = draw(st.sampled_from([3, 3, 4, *TYPES, 13, 16, 99]))
        form = {13: "I", 16: "Q"}.get(type) or TYPES.get(type, "B")
        values = draw(st.integers(0, 3))
        numbers = [draw(VALUES.get(letter, st.integers(0, 9))) for _ in range(values) for letter in form]
        data = b"".join(
            struct.pack(order + letter, number) for letter, number in zip(form * values, numbers, strict=True)
        )
        if len(data) > 4:
            away = draw(st.sampled_from([0, 0, 0, 1000]))
            at = 8 + 2 + 12 * count + 4 + len(outside) + away
            outside, data = outside + data, struct.pack(order + "I", at)
        claimed = draw(st.sampled_from([values, values, values, values + 1, 2**31]))
        entries += struct.pack(order + "HHI", tag, type, claimed) + data.ljust(4, b"\x00")
    start = draw(st.sampled_from({"<": [b"II*\x00", b"II\x00*"], ">": [b"MM\x00*", b"MM*\x00"]}[order]))
    whole = start + struct.pack(order + "IH", 8, count) + entries + bytes(4) + outside
    return whole[: draw(st.sampled_from([len(whole), len(whole), len(whole) // 2]))]


@given(
    directories(),
    st.sampled_from(["", 'tiff:Orientation="6"', "<tiff:Orientation>3</tiff:Orientation>", 'n="9"']),
    st.booleans(),
    st.sampled_from([JPEG, PNG]),
)
def test_the_orientation_is_the_one_that_pillow_reads(
    exif: bytes, xmp: str, split: bool, form: ImageFormat
) -> None:
    cut = len(exif) // 2 if split else 0
    head = b"Exif\x00\x00"
    if form is JPEG:
        segments = [(0xE1, head + exif[:cut])] * split + [(0xE1, head + exif[cut:])]
        segments += [(0xE1, b"http://ns.adobe.com/xap/1.0/\x00" + xmp.encode())] * bool(xmp)
        content = with_segments(SMALL[JPEG], *segments)
    else:
        text = b"XML:com.adobe.xmp" + bytes(5) + xmp.encode()
        content = with_chunks(SMALL[PNG], *[(b"eXIf", exif)], *[(b"iTXt", text)] * bool(xmp))
    found = orientation(content, form)
    if len(exif) < 8:  # Pillow fails, in different ways; here the XMP counts
        assert found == {"6": 6, "3": 3}.get(next(filter(str.isdigit, xmp), ""), 1)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(content)) as image:
            read = image.getexif().get(0x0112, 1)
            assert found == (read if read in range(1, 9) else 1)
            try:
                upright = np.asarray(ImageOps.exif_transpose(image))
            except Exception:
                return  # after the transposition Pillow writes the other entries again, which can fail
            assert np.array_equal(upright, turned(np.asarray(image), found))


def turned(pixels: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    methods = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }  # fmt: skip
    image = Image.fromarray(pixels)
    return np.asarray(image.transpose(methods[number]) if number in methods else image)


def small(form: ImageFormat) -> bytes:
    """A photo that looks different in every orientation."""
    buffer = io.BytesIO()
    pixels = (np.arange(16 * 24 * 3, dtype=np.uint32) ** 2 // 700 % 256).astype(np.uint8).reshape(16, 24, 3)
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


SMALL = {form: small(form) for form in ImageFormat}
