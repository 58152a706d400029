"""Which files are rejected by their headers, and why."""

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ingest_svc.formats.clip_container import ClipContainer
from ingest_svc.formats.inspection import MediaHeader, MediaLimits, inspect, inspect_head
from ingest_svc.rejection import RejectionCause, RejectReason
from mesh.image_headers import ImageFormat
from tests.support.image_files import jpeg, png, tiff

LIMITS = MediaLimits(bytes=100_000, pixels=2_000_000)
WITH_CLIPS = replace(LIMITS, clip_bytes=10**9, clips_installed=True)


def encoded(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((120, 80), 40).convert("RGB").save(buffer, form, **options)
    return buffer.getvalue()


def reason(content: bytes) -> RejectReason | None:
    result = inspect(content, LIMITS)
    return result.reason if isinstance(result, RejectionCause) else None


def test_what_real_encoders_write_is_accepted() -> None:
    assert inspect(encoded("JPEG"), LIMITS) == MediaHeader(ImageFormat.JPEG, 120, 80)
    assert inspect(encoded("JPEG", progressive=True, quality=95), LIMITS) == MediaHeader(
        ImageFormat.JPEG, 120, 80
    )
    assert inspect(encoded("PNG"), LIMITS) == MediaHeader(ImageFormat.PNG, 120, 80)


@pytest.mark.parametrize(
    "padding", [b"\x00" * 500, b"\xff" * 3, b"\r\n", jpeg(), b"\x00\x00\x00\x18ftypmp42"]
)
def test_data_after_the_end_marker_is_tolerated(padding: bytes) -> None:
    assert inspect(jpeg() + padding, LIMITS) == MediaHeader(ImageFormat.JPEG, 640, 480)


def test_fill_bytes_between_segments_are_tolerated() -> None:
    content = jpeg("mark")
    assert inspect(content[:2] + b"\xff" * 200 + content[2:], LIMITS) == MediaHeader(
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
        (b"\x00\x00\x01\xba" + bytes(32), RejectReason.UNSUPPORTED_VIDEO),
        (b"\x00\x00\x00\x01\x67" + bytes(32), RejectReason.UNSUPPORTED_VIDEO),
        (b"FLV\x01" + bytes(32), RejectReason.UNSUPPORTED_VIDEO),
        (b"OggS" + bytes(32), RejectReason.UNSUPPORTED_VIDEO),
        (b"IMKH" + bytes(32), RejectReason.UNSUPPORTED_VIDEO),
        (b"DHAV" + bytes(32), RejectReason.UNSUPPORTED_VIDEO),
        (b"\x00\x00\x00\x18stypmsdh" + bytes(16), RejectReason.UNSUPPORTED_VIDEO),
        (b"\x00\x00\x00\x68moof" + bytes(96), RejectReason.UNSUPPORTED_VIDEO),
    ],
)
def test_rejections(content: bytes, expected: RejectReason) -> None:
    assert reason(content) is expected


CLIPS = {
    b"\x00\x00\x00\x18ftypisom" + bytes(16): ClipContainer.MP4,
    b"\x00\x00\x00\x18ftypmp42" + bytes(16): ClipContainer.MP4,
    b"\x00\x00\x00\x18ftyp3gp5" + bytes(16): ClipContainer.THREE_GP,
    b"\x00\x00\x00\x14ftypqt  " + bytes(16): ClipContainer.QUICKTIME,
    b"\x00\x00\x10\x00moov" + bytes(16): ClipContainer.QUICKTIME,
    b"\x00\x00\x00\x08wide\x00\x00\x10\x00mdat" + bytes(16): ClipContainer.QUICKTIME,
    b"RIFF\x24\x00\x00\x00AVI LIST": ClipContainer.AVI,
    b"\x1a\x45\xdf\xa3\x8b\x42\x82\x88matroska" + bytes(32): ClipContainer.MATROSKA,
    b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm" + bytes(32): ClipContainer.WEBM,
    b"\x1a\x45\xdf\xa3" + bytes(32): ClipContainer.MATROSKA,
    (b"\x47" + bytes(187)) * 4: ClipContainer.MPEG_TS,
    (b"\x00\x00\x00\x00\x47" + bytes(187)) * 4: ClipContainer.MPEG_TS,
    (b"\x47" + bytes(203)) * 4: ClipContainer.MPEG_TS,
}


@pytest.mark.parametrize(("head", "container"), CLIPS.items(), ids=CLIPS.values())
def test_the_containers_of_clips(head: bytes, container: ClipContainer) -> None:
    assert inspect_head(head, WITH_CLIPS, 1000) is container
    refused = inspect_head(head, LIMITS, 1000)
    assert isinstance(refused, RejectionCause)
    assert refused.reason is RejectReason.CLIPS_NOT_INSTALLED


def test_clips_have_a_limit_of_their_own() -> None:
    head = b"\x00\x00\x00\x18ftypisom" + bytes(16)
    assert inspect_head(head, WITH_CLIPS, 10**9) is ClipContainer.MP4
    refused = inspect_head(head, WITH_CLIPS, 10**9 + 1)
    assert isinstance(refused, RejectionCause)
    assert refused.reason is RejectReason.TOO_MANY_BYTES
    assert (LIMITS.most_bytes, WITH_CLIPS.most_bytes) == (100_000, 10**9)


def test_the_limits_themselves_are_allowed() -> None:
    content = jpeg(width=2000, height=1000)
    assert inspect(content, MediaLimits(len(content), 2_000_000)) == MediaHeader(ImageFormat.JPEG, 2000, 1000)
    rejected = inspect(content, MediaLimits(len(content) - 1, 2_000_000))
    assert isinstance(rejected, RejectionCause)
    assert rejected.reason is RejectReason.TOO_MANY_BYTES


def test_the_end_marker_of_a_thumbnail_does_not_count() -> None:
    assert reason(jpeg(exif=tiff("2026:01:01 00:00:00") + jpeg("thumbnail"))[:-2]) is RejectReason.TRUNCATED


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_raise_nothing(content: bytes) -> None:
    assert isinstance(inspect(content, LIMITS), MediaHeader | RejectionCause)


@given(st.sampled_from(list(CLIPS)), st.binary(max_size=300))
def test_arbitrary_bytes_after_the_head_of_a_clip_raise_nothing(head: bytes, content: bytes) -> None:
    assert isinstance(inspect(head + content, WITH_CLIPS), ClipContainer | RejectionCause)


@given(st.sampled_from([jpeg("m", exif=tiff("2026:01:01 00:00:00")), png()]), st.data())
def test_damaged_files_raise_nothing(content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    assert isinstance(inspect(bytes(damaged[:cut]), LIMITS), MediaHeader | RejectionCause)
