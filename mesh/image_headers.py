"""Reads the headers of JPEG and PNG files: segments, chunks, size in pixels, and whether the end is there.

The bytes are untrusted. No pixel is decoded, nothing is decompressed, and every loop and read is bounded.
`mesh.image_metadata` reads orientation and capture time.

Pillow does not do this: it does not report where a JPEG's first scan begins, which the check for a truncated
file needs, and it raises errors of many types for malformed headers.
"""

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

JPEG_SIGNATURE = b"\xff\xd8"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

WINDOW_BYTES = 64 * 1024

# Markers of JPEG segments. SOF, the frame header, holds the size; SOS begins the pixels.
SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SOI, EOI, SOS, COM = 0xD8, 0xD9, 0xDA, 0xFE
APP0, APP1, APP14, APP15 = 0xE0, 0xE1, 0xEE, 0xEF
WITHOUT_BODY = frozenset({0x01, *range(0xD0, 0xD8)})
MAX_SEGMENTS = 4096
# Decoders skip everything before a marker: fill bytes (0xFF), stray bytes, and the pair 0xFF00.
MARKER = re.compile(rb"\xff[^\x00\xff]")
JPEG_END = b"\xff\xd9"
# Some cameras pad the file with zeros where the end marker should be. A longer tail of zeros is room that was
# reserved for the rest of the file, or what a power cut has left of it.
MIN_PADDING_BYTES, MAX_PADDING_BYTES = 4, 4096

# What libjpeg needs to know of a JFIF header, in the version that every decoder knows.
JFIF = b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"

PNG_HEADER_START = b"\x00\x00\x00\x0dIHDR"
PNG_HEADER_BYTES = 33
PNG_MAX_SIDE = 2**31 - 1
# The last chunk is empty; a checksum of 4 bytes follows, which no decoder compares.
PNG_END = b"\x00\x00\x00\x00IEND"
PNG_CHECKSUM_BYTES = 4
MAX_CHUNKS = 16_384  # encoders write 8 KiB of pixels or more into one


class TruncatedHeader(Exception):
    """The file ends before its size in pixels is known."""


class MalformedHeader(Exception):
    """The file cannot be of the format that its signature claims; the text says why."""


class ByteSource(Protocol):
    """Random access to the bytes of a file; `bytes` is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...

    def rfind(self, wanted: bytes, start: int, /) -> int: ...


class FileBytes:
    """The bytes of a file, read on demand; at most `WINDOW_BYTES` and the requested slice are in memory.

    `read(start, length)` returns fewer than `length` bytes only at the end of the file. It may
    raise OSError.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._size = read, size
        self._head = read(0, WINDOW_BYTES)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, end, _ = part.indices(self._size)
        if end <= len(self._head):
            return self._head[start:end]
        return self._read(start, max(0, end - start))

    def rfind(self, wanted: bytes, start: int) -> int:
        """Returns the position of the last occurrence of `wanted` at or after `start`, or -1."""
        end = self._size
        while end - start >= len(wanted):
            first = max(start, end - WINDOW_BYTES)
            if (found := self[first:end].rfind(wanted)) >= 0:
                return first + found
            if first == start:
                break
            end = first + len(wanted) - 1  # an occurrence may span two windows
        return -1


class ImageFormat(StrEnum):
    JPEG = "JPEG"
    PNG = "PNG"


class ImageEnd(StrEnum):
    MARKER = "MARKER"  # the end marker of the format is present
    PADDING = "PADDING"  # zeros are in its place: only the decoder can tell whether pixels are missing
    MISSING = "MISSING"


@dataclass(frozen=True, slots=True)
class ImageSize:
    """In pixels, before any EXIF rotation."""

    width: int
    height: int
    end: ImageEnd


def image_format(head: bytes) -> ImageFormat | None:
    """The format by the file's signature; None for any other. `head` is at least the first 8 bytes."""
    if head.startswith(JPEG_SIGNATURE):
        return ImageFormat.JPEG
    return ImageFormat.PNG if head.startswith(PNG_SIGNATURE) else None


def image_size(image: ByteSource, form: ImageFormat) -> ImageSize:
    """Raises TruncatedHeader or MalformedHeader."""
    return _jpeg_size(image) if form is ImageFormat.JPEG else _png_size(image)


class JpegSegment(NamedTuple):
    """The body of the segment is `jpeg[start:end]`; `end` may be beyond the end of a truncated file."""

    marker: int
    start: int
    end: int


def jpeg_segments(jpeg: ByteSource) -> Iterator[JpegSegment]:
    """The segments up to and including the header of the first scan, found as libjpeg finds them.

    Raises TruncatedHeader or MalformedHeader.
    """
    at = 2
    for _ in range(MAX_SEGMENTS):
        head = jpeg[at : at + 4]
        if not MARKER.match(head):
            at = _next_marker(jpeg, at)
            head = jpeg[at : at + 4]
        if len(head) < 4:
            raise TruncatedHeader
        marker = head[1]
        if marker in WITHOUT_BODY:
            at += 2
            continue
        if marker in (SOI, EOI):
            raise MalformedHeader("a segment is invalid")
        start = at + 4
        # A length below 2, its own size, is impossible: the body is empty, and the length is a stray byte.
        at += 2 + int.from_bytes(head[2:], "big")
        yield JpegSegment(marker, start, at)
        if marker == SOS:
            return
    raise MalformedHeader("it has too many segments")


def bare_jpeg(jpeg: bytes) -> bytes:
    """The photo without its metadata and the stray bytes of its header. What tells the decoder the meaning of
    the colours is kept. Raises TruncatedHeader or MalformedHeader."""
    parts, end = [JPEG_SIGNATURE], 0
    for marker, start, end in jpeg_segments(jpeg):
        body = jpeg[start:end]
        if marker == APP0 and body.startswith(b"JFIF\x00") and len(body) >= len(JFIF):
            body = JFIF
        elif marker == COM or (APP0 <= marker <= APP15 and marker != APP14):
            continue
        parts.append(bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body)
    return b"".join((*parts, jpeg[end:]))


def _next_marker(jpeg: ByteSource, at: int) -> int:
    """The position of the first marker at or after `at`. Raises TruncatedHeader if the file ends before, and
    MalformedHeader if it ends with anything but fill bytes."""
    last = b"\xff"
    while len(window := jpeg[at : at + WINDOW_BYTES]) >= 2:
        if found := MARKER.search(window):
            return at + found.start()
        last = window[-1:]
        at += len(window) - 1  # the last byte may begin a marker
    raise TruncatedHeader if last == b"\xff" else MalformedHeader("a segment does not start with a marker")


def _jpeg_size(jpeg: ByteSource) -> ImageSize:
    width = height = 0
    try:
        for segment in jpeg_segments(jpeg):
            if segment.marker in SOF and not width:
                if segment.start + 5 > len(jpeg):
                    raise TruncatedHeader
                height = int.from_bytes(jpeg[segment.start + 1 : segment.start + 3], "big")
                width = int.from_bytes(jpeg[segment.start + 3 : segment.start + 5], "big")
                if not width or not height:
                    raise MalformedHeader("its width or height is 0")
            if segment.marker == SOS:
                if not width:
                    raise MalformedHeader("its pixels come before its size")
                return ImageSize(width, height, _jpeg_end(jpeg, segment.end))
    except TruncatedHeader:
        if not width:
            raise
    return ImageSize(width, height, ImageEnd.MISSING)


def _jpeg_end(jpeg: ByteSource, scan: int) -> ImageEnd:
    """`scan` is where the first scan begins."""
    # Cameras append padding, previews and whole videos after the end marker. Before it, among the pixels, the
    # marker cannot occur: 0xFF is always escaped there.
    if jpeg.rfind(JPEG_END, scan) >= 0:
        return ImageEnd.MARKER
    tail = jpeg[max(scan, len(jpeg) - MAX_PADDING_BYTES - 1) :]
    zeros = len(tail) - len(tail.rstrip(b"\x00"))
    padded = MIN_PADDING_BYTES <= zeros <= MAX_PADDING_BYTES
    return ImageEnd.PADDING if padded else ImageEnd.MISSING


class PngChunk(NamedTuple):
    """The body of the chunk is `png[start:end]`; `end` may be beyond the end of a truncated file."""

    kind: bytes
    start: int
    end: int


def png_chunks(png: ByteSource) -> Iterator[PngChunk]:
    """The chunks up to the last one, or up to where the file ends or no chunk follows; at most MAX_CHUNKS."""
    at = len(PNG_SIGNATURE)
    for _ in range(MAX_CHUNKS):
        head = png[at : at + 8]
        if len(head) < 8:
            return
        start, kind = at + 8, head[4:]
        if not kind.isalpha():
            return
        end = start + int.from_bytes(head[:4], "big")
        yield PngChunk(kind, start, end)
        if kind == b"IEND":
            return
        at = end + PNG_CHECKSUM_BYTES


def bare_png(png: bytes) -> bytes:
    """The photo without its metadata: only the chunks that a decoder must understand."""
    parts, at = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    for kind, start, end in png_chunks(png):
        at = end + PNG_CHECKSUM_BYTES
        if kind[:1].isupper():
            parts.append(png[start - 8 : at])
    return b"".join((*parts, png[at:]))


def _png_size(png: ByteSource) -> ImageSize:
    if png[8:16] != PNG_HEADER_START[: len(png[8:16])]:
        raise MalformedHeader("it does not start with an IHDR chunk")
    if len(png) < PNG_HEADER_BYTES:
        raise TruncatedHeader
    if zlib.crc32(png[12:29]) != int.from_bytes(png[29:33], "big"):
        raise MalformedHeader("the checksum of its header is wrong")
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    if not 0 < width <= PNG_MAX_SIDE or not 0 < height <= PNG_MAX_SIDE:
        raise MalformedHeader("its width or height is invalid")
    found = png.rfind(PNG_END, PNG_HEADER_BYTES)
    whole = found >= 0 and found + len(PNG_END) + PNG_CHECKSUM_BYTES <= len(png)
    return ImageSize(width, height, ImageEnd.MARKER if whole else ImageEnd.MISSING)
