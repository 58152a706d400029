"""Which files are rejected by their headers, and why."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ingest_svc.formats.inspection import PhotoHeader, PhotoLimits, inspect, inspect_head
from ingest_svc.rejection import RejectionCause, RejectReason
from mesh.image_headers import ImageFormat
from tests.support.image_files import jpeg, png, tiff

LIMITS = PhotoLimits(bytes=100_000, pixels=2_000_000)


def encoded(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((120, 80), 40).convert("RGB").save(buffer, form, **options)
    return buffer.getvalue()


def reason(content: bytes) -> RejectReason | None:
    result = inspect(content, LIMITS)
    return result.reason if isinstance(result, RejectionCause) else None


def test_what_real_encoders_write_is_accepted() -> None:
    assert inspect(encoded("JPEG"), LIMITS) == PhotoHeader(ImageFormat.JPEG, 120, 80)
    assert inspect(encoded("JPEG", progressive=True, quality=95), LIMITS) == PhotoHeader(
        ImageFormat.JPEG, 120, 80
    )
    assert inspect(encoded("PNG"), LIMITS) == PhotoHeader(ImageFormat.PNG, 120, 80)


@pytest.mark.parametrize(
    "padding", [b"\x00" * 500, b"\xff" * 3, b"\r\n", jpeg(), b"\x00\x00\x00\x18ftypmp42"]
)
def test_data_after_the_end_marker_is_tolerated(padding: bytes) -> None:
    assert inspect(jpeg() + padding, LIMITS) == PhotoHeader(ImageFormat.JPEG, 640, 480)


def test_fill_bytes_between_segments_are_tolerated() -> None:
    content = jpeg("mark")
    assert inspect(content[:2] + b"\xff" * 200 + content[2:], LIMITS) == PhotoHeader(
        ImageFormat.JPEG, 640, 480
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", RejectReason.ZERO_BYTE),
        (b"\xff\xd8", RejectReason.TRUNCATED),
        (jpeg()[:-2], RejectReason.TRUNCATED),
        (jpeg()[:20], RejectReason.TRUNCATED),
        (encoded("JPEG")[:-700], RejectReason.TRUNCATED),
        (png()[:-4], RejectReason.TRUNCATED),
        (png()[:10], RejectReason.TRUNCATED),
        (b"\xff\xd8\xff\xe0\x00\x01" + b"x" * 50, RejectReason.CORRUPT),
        (b"\xff\xd8\xff\xd9", RejectReason.TRUNCATED),
        (b"\xff\xd8\xff\xd9" + b"x" * 50, RejectReason.CORRUPT),
        (jpeg().replace(b"\xff\xc0", b"\xff\xc4"), RejectReason.CORRUPT),
        (jpeg(width=0), RejectReason.CORRUPT),
        (png(width=0), RejectReason.CORRUPT),
        (png().replace(b"IHDR", b"JHDR"), RejectReason.CORRUPT),
        (png()[:20] + b"\x09" + png()[21:], RejectReason.CORRUPT),
        (jpeg(width=2001, height=1000), RejectReason.TOO_MANY_PIXELS),
        (png(width=50_000, height=50_000), RejectReason.TOO_MANY_PIXELS),
        (jpeg(pixels=b"\x12" * 100_000), RejectReason.TOO_MANY_BYTES),
        (b"hello, this is no photo", RejectReason.NOT_AN_IMAGE),
        (encoded("GIF"), RejectReason.NOT_AN_IMAGE),
        (encoded("WEBP"), RejectReason.NOT_AN_IMAGE),
        (encoded("BMP"), RejectReason.NOT_AN_IMAGE),
        (b"\x00\x00\x00\x18ftypheic" + bytes(16), RejectReason.NOT_AN_IMAGE),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", RejectReason.NOT_AN_IMAGE),
        (b"\x00\x00\x00\x18ftypisom" + bytes(16), RejectReason.VIDEO_NOT_YET),
        (b"\x00\x00\x00\x14ftypqt  " + bytes(16), RejectReason.VIDEO_NOT_YET),
        (b"\x00\x00\x10\x00moov" + bytes(16), RejectReason.VIDEO_NOT_YET),
        (b"RIFF\x24\x00\x00\x00AVI LIST", RejectReason.VIDEO_NOT_YET),
        (b"\x1a\x45\xdf\xa3" + bytes(32), RejectReason.VIDEO_NOT_YET),
        (b"\x00\x00\x01\xba" + bytes(32), RejectReason.VIDEO_NOT_YET),
        ((b"\x47" + bytes(187)) * 4, RejectReason.VIDEO_NOT_YET),
        ((b"\x00\x00\x00\x00\x47" + bytes(187)) * 4, RejectReason.VIDEO_NOT_YET),
        (b"G" * 400, RejectReason.VIDEO_NOT_YET),
    ],
)
def test_rejections(content: bytes, expected: RejectReason) -> None:
    assert reason(content) is expected


def test_a_large_video_is_rejected_as_a_video() -> None:
    head = b"\x00\x00\x00\x18ftypisom" + bytes(16)
    result = inspect_head(head, LIMITS, 10**9)
    assert isinstance(result, RejectionCause)
    assert result.reason is RejectReason.VIDEO_NOT_YET


def test_the_limits_themselves_are_allowed() -> None:
    content = jpeg(width=2000, height=1000)
    assert inspect(content, PhotoLimits(len(content), 2_000_000)) == PhotoHeader(ImageFormat.JPEG, 2000, 1000)
    rejected = inspect(content, PhotoLimits(len(content) - 1, 2_000_000))
    assert isinstance(rejected, RejectionCause)
    assert rejected.reason is RejectReason.TOO_MANY_BYTES


def test_the_end_marker_of_a_thumbnail_does_not_count() -> None:
    assert reason(jpeg(exif=tiff("2026:01:01 00:00:00") + jpeg("thumbnail"))[:-2]) is RejectReason.TRUNCATED


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_raise_nothing(content: bytes) -> None:
    assert isinstance(inspect(content, LIMITS), PhotoHeader | RejectionCause)


@given(st.sampled_from([jpeg("m", exif=tiff("2026:01:01 00:00:00")), png()]), st.data())
def test_damaged_files_raise_nothing(content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    assert isinstance(inspect(bytes(damaged[:cut]), LIMITS), PhotoHeader | RejectionCause)
