"""JPEG and PNG files with valid headers and meaningless pixels."""

import struct
import zlib
from collections.abc import Sequence


def jpeg(
    mark: str = "", width: int = 640, height: int = 480, exif: bytes = b"", pixels: bytes = b"\x12" * 64
) -> bytes:
    """A complete JPEG file; a different `mark` makes different content."""
    parts = [b"\xff\xd8"]
    if exif:
        parts.append(segment(0xE1, b"Exif\x00\x00" + exif))
    if mark:
        parts.append(segment(0xFE, mark.encode()))
    parts.append(segment(0xC0, struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00"))
    parts.append(segment(0xDA, b"\x01\x01\x00\x00\x3f\x00"))
    return b"".join([*parts, pixels, b"\xff\xd9"])


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def tiff(taken: str = "", offset: str = "", fraction: str = "", order: str = "<") -> bytes:
    """EXIF with DateTimeOriginal, OffsetTimeOriginal and SubSecTimeOriginal, in either byte order."""
    texts = [(0x9003, taken), (0x9011, offset), (0x9291, fraction)]
    entries = [(tag, text.encode() + b"\x00") for tag, text in texts if text]
    folder_at = 8 + 2 + 12 + 4
    values_at = folder_at + 2 + 12 * len(entries) + 4
    folder, values = struct.pack(f"{order}H", len(entries)), b""
    for tag, text in entries:
        inline = (
            text.ljust(4, b"\x00") if len(text) <= 4 else struct.pack(f"{order}I", values_at + len(values))
        )
        values += text if len(text) > 4 else b""
        folder += struct.pack(f"{order}HHI", tag, 2, len(text)) + inline
    head = (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(f"{order}I", 8)
    first = struct.pack(f"{order}HHHII", 1, 0x8769, 4, 1, folder_at) + struct.pack(f"{order}I", 0)
    return head + first + folder + struct.pack(f"{order}I", 0) + values


def png(
    width: int = 640, height: int = 480, mark: str = "", extra: Sequence[tuple[bytes, bytes]] = ()
) -> bytes:
    """`extra`: kind and body of further chunks."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tEXt", mark.encode()), *extra, (b"IDAT", b"\x00" * 16), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_segments(jpeg: bytes, *segments: tuple[int, bytes]) -> bytes:
    """The JPEG with these segments (marker and body) after its first one, which is JFIF's."""
    first = 4 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:first] + b"".join(segment(*each) for each in segments) + jpeg[first:]


def with_chunks(png: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """The PNG with these chunks (kind and body) after its header."""
    return png[:33] + b"".join(chunk(*each) for each in chunks) + png[33:]
