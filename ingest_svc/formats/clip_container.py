"""Whether a clip's file is whole, told by the structure of its container. Nothing is decoded.

The bytes are untrusted. Only the heads of a container's parts are read, a few bytes of each, and never more
than MAX_PARTS of them, whatever lengths they state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import NamedTuple

from mesh.image_headers import ByteSource, MalformedHeader

# More than a clip of an hour with a fragment for each half second has.
MAX_PARTS = 20_000
# (offset of the first byte 0x47, length) of the packets of MPEG-TS, M2TS, and MPEG-TS with parity.
TS_PACKETS = ((0, 188), (4, 192), (0, 204))
TS_SYNC = 0x47

# Matroska's elements on its two upper levels.
EBML_HEADER, VOID, CHECKSUM = 0x1A45DFA3, 0xEC, 0xBF
SEGMENT, CLUSTER, CUES = 0x18538067, 0x1F43B675, 0x1C53BB6B
ELEMENT_HEAD_BYTES = 12

# Some programs count the head of an AVI's RIFF chunk twice.
RIFF_SLACK_BYTES = 8
# What programs write in place of a length that they do not know yet.
RIFF_UNKNOWN = (0, 0xFFFFFFFF)


class ClipContainer(StrEnum):
    """The containers that are accepted, by the names of MediaType."""

    MP4 = "MP4"
    QUICKTIME = "QUICKTIME"
    MATROSKA = "MATROSKA"
    WEBM = "WEBM"
    AVI = "AVI"
    MPEG_TS = "MPEG_TS"
    THREE_GP = "3GP"


class ClipEnd(Enum):
    WHOLE = auto()  # nothing is missing
    OPEN = auto()  # nothing is missing yet, but the container does not say whether more is to come
    MISSING = auto()


@dataclass(frozen=True)
class ClipExtent:
    """`missing` says what is missing, in a few words for people."""

    end: ClipEnd
    missing: str = ""


WHOLE, OPEN = ClipExtent(ClipEnd.WHOLE), ClipExtent(ClipEnd.OPEN)


def clip_extent(content: ByteSource, container: ClipContainer) -> ClipExtent:
    """Raises MalformedHeader if the file cannot be of this container."""
    return _EXTENTS[container](content)


def transport_packets(head: bytes) -> tuple[int, int] | None:
    """Offset and length of the packets of an MPEG transport stream, of which at least two are required; None
    if it is none."""
    for offset, length in TS_PACKETS:
        starts = head[offset::length]
        if len(starts) >= 2 and set(starts) == {TS_SYNC}:
            return offset, length
    return None


class _Box(NamedTuple):
    """`length` includes the head; None: up to the end of the file."""

    kind: bytes
    length: int | None


def _mp4_extent(content: ByteSource) -> ClipExtent:
    at, size, kinds, last = 0, len(content), set[bytes](), b""
    for _ in range(MAX_PARTS):
        whole = {b"moov", b"mdat"} <= kinds and last != b"moof"
        if at == size:
            break
        try:
            box = _box(content, at)
        except MalformedHeader:
            if whole:
                return WHOLE  # what a camera or an editor has appended is nobody's business
            raise
        if box is None and whole and b"moof" not in kinds:
            return WHOLE
        if box is None or at + (box.length or 0) > size:
            what = box.kind.decode("ascii", "replace") if box else "its last part"
            return _missing(f"the end of {what}")
        kinds.add(box.kind)
        if box.length is None:  # up to the end of the file, wherever that will be
            index_first = box.kind == b"mdat" and b"moov" in kinds
            return OPEN if index_first else _missing("its index")
        last, at = box.kind, at + box.length
    else:
        raise MalformedHeader(f"more than {MAX_PARTS} parts")
    if b"moov" not in kinds:
        return _missing("its index")
    if not whole:
        return _missing("pictures")
    return OPEN if b"moof" in kinds and last != b"mfra" else WHOLE


def _box(content: ByteSource, at: int) -> _Box | None:
    """The box that begins there; None if its head is not there. Raises MalformedHeader."""
    head = content[at : at + 16]
    kind, length, head_length = head[4:8], int.from_bytes(head[:4], "big"), 8
    if len(head) < 8:
        return None
    if not any(kind) and not length:
        return None  # zeros: space that is reserved for what is to come
    if not all(0x20 <= byte <= 0x7E or byte == 0xA9 for byte in kind):
        raise MalformedHeader(f"no part begins at byte {at}")
    if length == 0:
        return _Box(kind, None)
    if length == 1:
        if len(head) < 16:
            return None
        length, head_length = int.from_bytes(head[8:16], "big"), 16
    if length < head_length:
        raise MalformedHeader(f"the part at byte {at} is shorter than its head")
    return _Box(kind, length)


class _Element(NamedTuple):
    """`length` is that of the body, which begins at `body`; None if it is not known."""

    id: int
    body: int
    length: int | None


def _matroska_extent(content: ByteSource) -> ClipExtent:
    at = 0
    for _ in range(MAX_PARTS):
        element = _element(content, at)
        if element is None:
            return _missing("everything but its header")
        if element.id == SEGMENT:
            return _segment_extent(content, element)
        if element.id not in (EBML_HEADER, VOID, CHECKSUM) or element.length is None:
            raise MalformedHeader(f"an unknown element at byte {at}")
        at = element.body + element.length
    raise MalformedHeader(f"more than {MAX_PARTS} parts")


def _segment_extent(content: ByteSource, segment: _Element) -> ClipExtent:
    size, ids = len(content), set[int]()
    if segment.length is not None:
        end = segment.body + segment.length
        return WHOLE if segment.length and end <= size else _missing("its end")
    # It was written as a live stream, or is being written.
    at = segment.body
    for _ in range(MAX_PARTS):
        if at == size:
            break
        element = _element(content, at)
        if element is None:
            return _missing("the end of its last part")
        ids.add(element.id)
        if element.length is None:
            if element.id != CLUSTER:
                raise MalformedHeader(f"the element at byte {at} has no length")
            return OPEN
        at = element.body + element.length
        if at > size:
            return _missing("the end of its last part")
    else:
        raise MalformedHeader(f"more than {MAX_PARTS} parts")
    if CLUSTER not in ids:
        return _missing("pictures")
    return WHOLE if CUES in ids else OPEN


def _element(content: ByteSource, at: int) -> _Element | None:
    """The element that begins there; None if its head is not there. Raises MalformedHeader."""
    head = content[at : at + ELEMENT_HEAD_BYTES]
    if not any(head):
        return None  # or zeros: space that is reserved for what is to come
    id_length = _vint_length(head[0], 4, at)
    if len(head) <= id_length:
        return None
    length = _vint_length(head[id_length], 8, at)
    if len(head) < id_length + length:
        return None
    value = int.from_bytes(head[id_length : id_length + length], "big") & ((1 << 7 * length) - 1)
    unknown = value == (1 << 7 * length) - 1
    return _Element(
        int.from_bytes(head[:id_length], "big"), at + id_length + length, None if unknown else value
    )


def _vint_length(first: int, most: int, at: int) -> int:
    """The length of a number whose leading zero bits tell it. Raises MalformedHeader."""
    length = 9 - first.bit_length()
    if length > most:
        raise MalformedHeader(f"no element begins at byte {at}")
    return length


def _avi_extent(content: ByteSource) -> ClipExtent:
    at, size = 0, len(content)
    for _ in range(MAX_PARTS):
        head = content[at : at + 8]
        if head[:4] != b"RIFF":
            return WHOLE  # what follows the last one is nobody's business
        length = int.from_bytes(head[4:], "little")
        if len(head) < 8 or length in RIFF_UNKNOWN:
            return _missing("its index")
        at += 8 + length
        if at > size + RIFF_SLACK_BYTES:
            return _missing("its end")
        at += length % 2
    raise MalformedHeader(f"more than {MAX_PARTS} parts")


def _transport_stream_extent(content: ByteSource) -> ClipExtent:
    packets = transport_packets(content[:1024])
    if packets is None:
        raise MalformedHeader("no packets of a transport stream")
    (offset, length), size = packets, len(content)
    if size % length or content[size - length + offset : size - length + offset + 1] != bytes([TS_SYNC]):
        return _missing("the end of its last packet")
    return OPEN


def _missing(what: str) -> ClipExtent:
    return ClipExtent(ClipEnd.MISSING, what)


_EXTENTS: dict[ClipContainer, Callable[[ByteSource], ClipExtent]] = {
    ClipContainer.MP4: _mp4_extent,
    ClipContainer.QUICKTIME: _mp4_extent,
    ClipContainer.THREE_GP: _mp4_extent,
    ClipContainer.MATROSKA: _matroska_extent,
    ClipContainer.WEBM: _matroska_extent,
    ClipContainer.AVI: _avi_extent,
    ClipContainer.MPEG_TS: _transport_stream_extent,
}
