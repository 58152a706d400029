"""The outside of a JPEG file: its segments, its size in pixels, its end. No pixel is decoded."""

from collections.abc import Iterator
from dataclasses import dataclass

from ingest_svc.content import Content

SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
SOS, EOI, APP1 = 0xDA, 0xD9, 0xE1
MOST_SEGMENTS = 4096
FILL_WINDOW_BYTES = 4096


class Cut(Exception):
    """The file ends in the middle."""


class Broken(Exception):
    """The file cannot be a JPEG file; the text says why."""


@dataclass(frozen=True)
class Segment:
    """`content[start:end]` is what the marker brings; `end` may lie beyond the content's own end."""

    marker: int
    start: int
    end: int


def segments(content: Content) -> Iterator[Segment]:
    """The segments up to and with the first scan's header. Raises Cut or Broken."""
    at = 2
    for _ in range(MOST_SEGMENTS):
        if content[at : at + 1] not in (b"\xff", b""):
            raise Broken("no marker where one must be")
        code = _behind_fill(content, at)
        if code + 3 > len(content):
            raise Cut
        marker, at = content[code : code + 1][0], code + 1
        if marker in STANDALONE:
            continue
        length = int.from_bytes(content[at : at + 2], "big")
        if length < 2 or marker in (0x00, EOI):
            raise Broken("a segment that cannot be")
        yield Segment(marker, at + 2, at + length)
        if marker == SOS:
            return
        at += length
    raise Broken("too many segments")


def _behind_fill(content: Content, at: int) -> int:
    """Where the first byte from `at` on lies that is no fill byte; the content's end where none is."""
    while window := content[at : at + FILL_WINDOW_BYTES]:
        if rest := window.lstrip(b"\xff"):
            return at + len(window) - len(rest)
        at += len(window)
    return at


def size(content: Content) -> tuple[int, int, bool]:
    """(width, height, whether the end is there). Raises Cut where the file ends before its size is known,
    or Broken."""
    width = height = 0
    try:
        for segment in segments(content):
            if segment.marker in SOF:
                if segment.start + 5 > len(content):
                    raise Cut
                height = int.from_bytes(content[segment.start + 1 : segment.start + 3], "big")
                width = int.from_bytes(content[segment.start + 3 : segment.start + 5], "big")
                if not width or not height:
                    raise Broken("a side of no pixels")
            if segment.marker == SOS:
                if not width:
                    raise Broken("pixels before their size")
                # Cameras add padding, previews and whole films after the end marker; before it, in the
                # pixels, it cannot occur: there 0xFF is always escaped.
                return width, height, content.rfind(b"\xff\xd9", segment.end) >= 0
    except Cut:
        if not width:
            raise
    return width, height, False
