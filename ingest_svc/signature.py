"""What a file is, by its first bytes; its name says nothing."""

from dataclasses import dataclass
from enum import Enum, auto

# As many bytes as `signature` looks at.
LOOKED_AT = 1024

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"
TS_PACKETS = ((0, 188), (4, 192), (0, 204))  # (offset, length) of MPEG-TS, M2TS, TS with parity

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


class Family(Enum):
    JPEG = auto()
    PNG = auto()
    PICTURE = auto()  # of a kind that is not taken
    VIDEO = auto()
    UNKNOWN = auto()


@dataclass(frozen=True)
class Signature:
    family: Family
    name: str


def signature(head: bytes) -> Signature:
    """`head`: the first LOOKED_AT bytes, or all there are."""
    if head.startswith(JPEG) and head[2:3] in (b"", b"\xff"):
        return Signature(Family.JPEG, "JPEG")
    if head[:8] == PNG[: len(head)] and len(head) >= 4:
        return Signature(Family.PNG, "PNG")
    if head[4:8] == b"ftyp":
        still = head[8:12] in STILL_BRANDS
        return Signature(Family.PICTURE, "HEIF") if still else Signature(Family.VIDEO, "MP4")
    if head[4:8] in QUICKTIME_ATOMS:
        return Signature(Family.VIDEO, "QuickTime")
    if head.startswith(b"RIFF"):
        return _riff(head[8:12])
    for magic, name in VIDEOS:
        if head.startswith(magic):
            return Signature(Family.VIDEO, name)
    for magic, name in PICTURES:
        if head.startswith(magic):
            return Signature(Family.PICTURE, name)
    if any(_transport_stream(head, *packet) for packet in TS_PACKETS):
        return Signature(Family.VIDEO, "MPEG-TS")
    return Signature(Family.UNKNOWN, "")


def _riff(form: bytes) -> Signature:
    if form.startswith(b"AVI"):
        return Signature(Family.VIDEO, "AVI")
    if form == b"WEBP":
        return Signature(Family.PICTURE, "WebP")
    return Signature(Family.UNKNOWN, "")


def _transport_stream(head: bytes, offset: int, length: int) -> bool:
    """Every packet begins with 0x47; two of them are asked for."""
    starts = head[offset::length]
    return len(starts) >= 2 and set(starts) == {0x47}
