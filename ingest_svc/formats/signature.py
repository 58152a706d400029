"""Tells the kind of a file from its first bytes; its name is not considered."""

from dataclasses import dataclass
from enum import Enum, auto

from mesh.image_headers import JPEG_SIGNATURE, PNG_SIGNATURE

# How many bytes `signature` reads.
SIGNATURE_BYTES = 1024

# (offset, length) of the packets of MPEG-TS, M2TS, and MPEG-TS with parity.
TS_PACKETS = ((0, 188), (4, 192), (0, 204))

STILL_BRANDS = (
    b"heic",
    b"heix",
    b"heim",
    b"heis",
    b"hevc",
    b"hevx",
    b"mif1",
    b"msf1",
    b"avif",
    b"avis",
    b"jxl ",
)
QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"pnot", b"skip", b"free")
VIDEOS = (
    (b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (b"\x00\x00\x01\xba", "MPEG"),
    (b"\x00\x00\x01\xb3", "MPEG"),
    (b"\x00\x00\x00\x01\x67", "H.264"),
    (b"\x00\x00\x00\x01\x40\x01", "H.265"),
    (b"FLV\x01", "Flash"),
    (b"OggS", "Ogg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media"),
)
PICTURES = (
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
)


class FileFamily(Enum):
    JPEG = auto()
    PNG = auto()
    PICTURE = auto()  # in a format that is not accepted
    VIDEO = auto()
    UNKNOWN = auto()


@dataclass(frozen=True)
class Signature:
    family: FileFamily
    name: str


def signature(head: bytes) -> Signature:
    """`head` is the first SIGNATURE_BYTES of a file, or all of a smaller one."""
    if head.startswith(JPEG_SIGNATURE) and head[2:3] in (b"", b"\xff"):
        return Signature(FileFamily.JPEG, "JPEG")
    if head[:8] == PNG_SIGNATURE[: len(head)] and len(head) >= 4:
        return Signature(FileFamily.PNG, "PNG")
    if head[4:8] == b"ftyp":
        still = head[8:12] in STILL_BRANDS
        return Signature(FileFamily.PICTURE, "HEIF") if still else Signature(FileFamily.VIDEO, "MP4")
    if head[4:8] in QUICKTIME_ATOMS:
        return Signature(FileFamily.VIDEO, "QuickTime")
    if head.startswith(b"RIFF"):
        return _riff(head[8:12])
    for magic, name in VIDEOS:
        if head.startswith(magic):
            return Signature(FileFamily.VIDEO, name)
    for magic, name in PICTURES:
        if head.startswith(magic):
            return Signature(FileFamily.PICTURE, name)
    if any(_transport_stream(head, *packet) for packet in TS_PACKETS):
        return Signature(FileFamily.VIDEO, "MPEG-TS")
    return Signature(FileFamily.UNKNOWN, "")


def _riff(form: bytes) -> Signature:
    if form.startswith(b"AVI"):
        return Signature(FileFamily.VIDEO, "AVI")
    if form == b"WEBP":
        return Signature(FileFamily.PICTURE, "WebP")
    return Signature(FileFamily.UNKNOWN, "")


def _transport_stream(head: bytes, offset: int, length: int) -> bool:
    """Every packet starts with 0x47; at least two are required."""
    starts = head[offset::length]
    return len(starts) >= 2 and set(starts) == {0x47}
