"""Headers of JPEG and PNG files, malformed ones included. tests/unit/ingest_svc/test_inspection.py covers
sizes."""

import io
import struct
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mesh.image_headers import (
    WINDOW_BYTES,
    ExifTime,
    FileBytes,
    ImageFormat,
    exif_orientation,
    exif_time,
    image_format,
)
from tests.support.image_files import jpeg, png, tiff


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_read_in_both_byte_orders(order: str) -> None:
    content = jpeg(exif=tiff("2026:05:04 03:02:01", "+05:30", "25", order))
    assert exif_time(content) == ExifTime(
        datetime(2026, 5, 4, 3, 2, 1, 250_000), timedelta(hours=5, minutes=30)
    )


def test_exif_of_a_real_encoder_is_read() -> None:
    photo, exif = Image.new("RGB", (8, 8)), Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2026:05:04 03:02:01"
    exif.get_ifd(0x8769)[0x9291] = "123456789"
    exif.get_ifd(0x8769)[0x9011] = "-03:00"
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", exif=exif)
    assert exif_time(buffer.getvalue()) == ExifTime(
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
    assert exif_time(jpeg(exif=exif)) == expected


@given(st.binary(max_size=400))
def test_arbitrary_exif_raises_nothing(exif: bytes) -> None:
    exif_time(jpeg(exif=exif))
    exif_time(exif)
    exif_time(b"\xff\xd8" + exif)


@given(st.data())
def test_damaged_exif_raises_nothing(data: st.DataObject) -> None:
    exif = bytearray(tiff("2026:05:04 03:02:01", "+05:30", "25"))
    for _ in range(data.draw(st.integers(1, 6))):
        exif[data.draw(st.integers(0, len(exif) - 1))] = data.draw(st.integers(0, 255))
    read = exif_time(jpeg(exif=bytes(exif)))
    assert read is None or isinstance(read, ExifTime)


def orientation_tiff(value: int, order: str) -> bytes:
    head = (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(f"{order}I", 8)
    return head + struct.pack(f"{order}HHHIHH", 1, 0x0112, 3, 1, value, 0) + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("value", "expected"), [(1, 1), (6, 6), (8, 8), (0, 1), (9, 1), (65535, 1)])
def test_the_orientation_is_read_and_invalid_values_mean_upright(
    value: int, expected: int, order: str
) -> None:
    assert exif_orientation(jpeg(exif=orientation_tiff(value, order))) == expected


def test_a_photo_without_exif_is_upright_and_has_no_time() -> None:
    assert exif_orientation(jpeg()) == 1
    assert exif_time(jpeg()) is None


@given(st.binary(max_size=400))
def test_arbitrary_headers_have_a_valid_orientation(noise: bytes) -> None:
    assert 1 <= exif_orientation(noise) <= 8
    assert 1 <= exif_orientation(b"\xff\xd8" + noise) <= 8
    assert 1 <= exif_orientation(jpeg(exif=noise)) <= 8
    assert 1 <= exif_orientation(jpeg(exif=b"II*\x00\x08\x00\x00\x00" + noise)) <= 8


def test_the_format_is_told_by_the_signature() -> None:
    assert image_format(jpeg()) is ImageFormat.JPEG
    assert image_format(png()) is ImageFormat.PNG
    assert image_format(b"GIF89a") is None
    assert image_format(b"") is None


@pytest.mark.parametrize("position", [0, 10, WINDOW_BYTES - 1, WINDOW_BYTES, 2 * WINDOW_BYTES + 7])
def test_bytes_of_a_file_are_searched_across_windows(position: int) -> None:
    content = bytes(position) + b"\xff\xd9" + bytes(3 * WINDOW_BYTES)
    file = FileBytes(lambda start, length: content[start : start + length], len(content))
    assert len(file) == len(content)
    assert file.rfind(b"\xff\xd9", 0) == position
    assert file.rfind(b"\xff\xd9", position + 1) == -1
    assert file[position : position + 2] == b"\xff\xd9"
    assert file[len(content) - 1 : len(content) + 10] == content[-1:]
