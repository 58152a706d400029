"""Whether a clip's file is whole, told by the structure of its container."""

import os
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_svc.formats.clip_container import MAX_PARTS, ClipContainer, ClipEnd, clip_extent
from mesh.blobs.spool import read_at
from mesh.image_headers import FileBytes, MalformedHeader
from tests.support.small_clips import KINDS, OPEN_ENDED, small_clip


def box(kind: bytes, content: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack(">I4s", len(content) + 8 if size is None else size, kind) + content


def long_box(kind: bytes, size: int) -> bytes:
    return struct.pack(">I4sQ", 1, kind, size)


FTYP, MOOV, MDAT = box(b"ftyp", b"isom" + bytes(4)), box(b"moov", bytes(40)), box(b"mdat", bytes(60))
MOOF, MFRA = box(b"moof", bytes(20)), box(b"mfra", bytes(8))


def end_of(content: bytes, container: ClipContainer = ClipContainer.MP4) -> ClipEnd:
    return clip_extent(content, container).end


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_as_encoders_write_it_is_whole(kind: str) -> None:
    expected = ClipEnd.OPEN if kind in OPEN_ENDED else ClipEnd.WHOLE
    assert end_of(small_clip(kind), KINDS[kind]) is expected


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_cut_off_anywhere_is_not_whole(kind: str) -> None:
    """Where a stream may end, it cannot be told from one that ends there: in a stream of packets at each, in
    fragments after each."""
    content = small_clip(kind)
    step = max(1, len(content) // 500)
    ends = [end_of(content[:size], KINDS[kind]) for size in range(600, len(content), step)]
    assert ClipEnd.WHOLE not in ends
    assert ends.count(ClipEnd.OPEN) <= len(ends) // 50 if kind in OPEN_ENDED else ClipEnd.OPEN not in ends


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in OPEN_ENDED])
def test_what_follows_a_whole_clip_does_not_matter(kind: str) -> None:
    for more in (b"\x00", b"\xff" * 100, b"\xff\xd8\xff" + bytes(5000)):
        assert end_of(small_clip(kind) + more, KINDS[kind]) is ClipEnd.WHOLE


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (FTYP + MOOV + MDAT, ClipEnd.WHOLE),
        (FTYP + MDAT + MOOV, ClipEnd.WHOLE),
        (FTYP + MDAT, ClipEnd.MISSING),  # the index comes last
        (FTYP + MDAT + MOOV[:-1], ClipEnd.MISSING),
        (FTYP + MDAT + box(b"moov", b"", 0), ClipEnd.MISSING),  # FFmpeg and others, while they write
        (FTYP + box(b"free") + box(b"mdat", bytes(100), 0), ClipEnd.MISSING),
        (FTYP + MOOV + box(b"mdat", bytes(100), 0), ClipEnd.OPEN),
        (FTYP + MOOV + MDAT + box(b"free", bytes(10)), ClipEnd.WHOLE),
        (FTYP + MOOV + MDAT + box(b"udta", bytes(10))[:-3], ClipEnd.MISSING),
        (FTYP + MOOV, ClipEnd.MISSING),
        (FTYP + MOOV + MOOF, ClipEnd.MISSING),
        (FTYP + MOOV + MOOF + MDAT, ClipEnd.OPEN),
        (FTYP + MOOV + MOOF + MDAT + MOOF, ClipEnd.MISSING),
        (FTYP + MOOV + (MOOF + MDAT) * 9 + MFRA, ClipEnd.WHOLE),
        (FTYP + MOOV + long_box(b"mdat", 16 + 20) + bytes(20), ClipEnd.WHOLE),
        (FTYP + MOOV + long_box(b"mdat", 2**63) + bytes(20), ClipEnd.MISSING),
        (FTYP + MOOV + long_box(b"mdat", 2**64 - 1) + bytes(20), ClipEnd.MISSING),
        (FTYP + long_box(b"mdat", 36)[:12], ClipEnd.MISSING),
        (FTYP + bytes(5000), ClipEnd.MISSING),  # room that was reserved
        (FTYP, ClipEnd.MISSING),
    ],
)
def test_the_parts_of_an_mp4(content: bytes, expected: ClipEnd) -> None:
    assert end_of(content) is expected


@pytest.mark.parametrize(
    "content",
    [
        FTYP + box(b"moov", b"", 7),  # shorter than its head
        FTYP + long_box(b"mdat", 0) + bytes(100),
        FTYP + long_box(b"mdat", 15) + bytes(100),
        FTYP + b"\xff\x01\x02\x03\x04\x05\x06\x07" * 9,
        FTYP + box(b"free") * (MAX_PARTS + 1) + MOOV + MDAT,
    ],
)
def test_an_mp4_that_is_none(content: bytes) -> None:
    with pytest.raises(MalformedHeader):
        clip_extent(content, ClipContainer.MP4)


EBML = b"\x1a\x45\xdf\xa3\x8b\x42\x82\x88matroska"
SEGMENT, CLUSTER, CUES = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\x1c\x53\xbb\x6b"
UNKNOWN = b"\x01" + b"\xff" * 7


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (EBML, ClipEnd.MISSING),
        (EBML + SEGMENT, ClipEnd.MISSING),
        (EBML + SEGMENT + b"\x84" + bytes(4), ClipEnd.WHOLE),
        (EBML + SEGMENT + b"\x84" + bytes(3), ClipEnd.MISSING),
        (EBML + b"\xec\x82\x00\x00" + SEGMENT + b"\x84" + bytes(4), ClipEnd.WHOLE),
        (EBML + SEGMENT + b"\x80", ClipEnd.MISSING),
        (EBML + SEGMENT + b"\x01" + b"\xff" * 6 + b"\xfe" + bytes(40), ClipEnd.MISSING),
        (EBML + SEGMENT + UNKNOWN, ClipEnd.MISSING),
        (EBML + SEGMENT + UNKNOWN + CLUSTER + b"\x82ab", ClipEnd.OPEN),
        (EBML + SEGMENT + b"\xff" + CLUSTER + b"\x82ab", ClipEnd.OPEN),
        (EBML + SEGMENT + UNKNOWN + CLUSTER + b"\x82a", ClipEnd.MISSING),
        (EBML + SEGMENT + UNKNOWN + CLUSTER + UNKNOWN + b"anything", ClipEnd.OPEN),
        (EBML + SEGMENT + UNKNOWN + CLUSTER + b"\x82ab" + CUES + b"\x80", ClipEnd.WHOLE),
        (b"RIFF\x14\x00\x00\x00AVI " + bytes(16), ClipEnd.WHOLE),
        (b"RIFF\x14\x00\x00\x00AVI " + bytes(7), ClipEnd.MISSING),
        (b"RIFF\x00\x00\x00\x00AVI " + bytes(16), ClipEnd.MISSING),
        (b"RIFF\xff\xff\xff\xffAVI " + bytes(16), ClipEnd.MISSING),
        (b"RIFF\x14\x00\x00\x00AVI " + bytes(16) + b"RIFF\x08\x00\x00\x00AVIX" + bytes(4), ClipEnd.WHOLE),
        (b"RIFF\x14\x00\x00\x00AVI " + bytes(16) + b"RIFF\x64\x00\x00\x00AVIX" + bytes(4), ClipEnd.MISSING),
        ((b"\x47" + bytes(187)) * 4, ClipEnd.OPEN),
        ((b"\x47" + bytes(187)) * 4 + b"\x47", ClipEnd.MISSING),
        ((b"\x47" + bytes(187)) * 6 + bytes(188 * 2), ClipEnd.MISSING),  # room that was reserved
        ((b"\x00\x00\x00\x00\x47" + bytes(187)) * 4, ClipEnd.OPEN),
        ((b"\x47" + bytes(203)) * 6 + bytes(10), ClipEnd.MISSING),
    ],
)
def test_the_parts_of_other_containers(content: bytes, expected: ClipEnd) -> None:
    starts = {b"\x1a": ClipContainer.MATROSKA, b"R": ClipContainer.AVI}
    assert end_of(content, starts.get(content[:1], ClipContainer.MPEG_TS)) is expected


def test_elements_without_end_are_bounded() -> None:
    with pytest.raises(MalformedHeader):
        clip_extent(EBML + b"\xec\x80" * (MAX_PARTS + 1), ClipContainer.MATROSKA)
    with pytest.raises(MalformedHeader):
        clip_extent(EBML + SEGMENT + UNKNOWN + b"\xec\x80" * (MAX_PARTS + 1), ClipContainer.MATROSKA)
    with pytest.raises(MalformedHeader):
        clip_extent(b"RIFF\x02\x00\x00\x00AV" * (MAX_PARTS + 1), ClipContainer.AVI)


@pytest.mark.parametrize("kind", KINDS)
def test_little_is_read(kind: str, tmp_path: Path) -> None:
    """Of a clip of 200 MB that is sparse, less than 64 KiB beside the head."""
    path = tmp_path / kind
    path.write_bytes(small_clip(kind))
    os.truncate(path, 200 * 2**20)
    read = 0
    with path.open("rb") as file:

        def reading(start: int, length: int) -> bytes:
            nonlocal read
            content = read_at(file.fileno(), start, length)
            read += len(content)
            return content

        clip_extent(FileBytes(reading, 200 * 2**20), KINDS[kind])
    assert read <= 2 * 64 * 2**10


@given(st.sampled_from(list(KINDS)), st.data())
def test_damaged_containers_raise_nothing_else(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(small_clip(kind))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(MalformedHeader):
        clip_extent(bytes(damaged), KINDS[kind])
