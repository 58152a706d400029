"""Tells the kind of a file from its first bytes; its name is not considered."""

from dataclasses import dataclass
from enum import Enum, auto

from ingest_svc.formats.clip_container import ClipContainer, transport_packets
from mesh.image_headers import JPEG_SIGNATURE, PNG_SIGNATURE

# How many bytes `signature` reads.
SIGNATURE_BYTES = 1024

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
# A piece of a stream, which cannot be read without another file.
SEGMENT_ATOMS = (b"moof", b"styp", b"sidx")
MATROSKA_START, DOCUMENT_TYPE = b"\x1a\x45\xdf\xa3", b"\x42\x82"
VIDEOS = (
    (b"\x00\x00\x01\xba", "MPEG"),
    (b"\x00\x00\x01\xb3", "MPEG"),
    (b"\x00\x00\x00\x01\x67", "H.264"),
    (b"\x00\x00\x00\x01\x40\x01", "H.265"),
    (b"IMKH", "Hikvision"),
    (b"DHAV", "Dahua"),
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
    CLIP = auto()
    VIDEO = auto()  # in a format that is not accepted
    UNKNOWN = auto()


@dataclass(frozen=True)
class Signature:
    """`container` is set for clips."""

    family: FileFamily
    name: str
    container: ClipContainer | None = None


def signature(head: bytes) -> Signature:
    """`head` is the first SIGNATURE_BYTES of a file, or all of a smaller one."""
    if head.startswith(JPEG_SIGNATURE) and head[2:3] in (b"", b"\xff"):
        return Signature(FileFamily.JPEG, "JPEG")
    if head[:8] == PNG_SIGNATURE[: len(head)] and len(head) >= 4:
        return Signature(FileFamily.PNG, "PNG")
    if head[4:8] == b"ftyp":
        return _iso_media(head[8:12])
    if head[4:8] in QUICKTIME_ATOMS:
        return _clip(ClipContainer.QUICKTIME)
    if head[4:8] in SEGMENT_ATOMS:
        return Signature(FileFamily.VIDEO, "MP4 segment")
    if head.startswith(MATROSKA_START):
        return _clip(ClipContainer.WEBM if _document_type(head) == b"webm" else ClipContainer.MATROSKA)
    if head.startswith(b"RIFF"):
        return _riff(head[8:12])
    for magic, name in VIDEOS:
        if head.startswith(magic):
            return Signature(FileFamily.VIDEO, name)
    for magic, name in PICTURES:
        if head.startswith(magic):
            return Signature(FileFamily.PICTURE, name)
    if transport_packets(head) is not None:
        return _clip(ClipContainer.MPEG_TS)
    return Signature(FileFamily.UNKNOWN, "")


def _clip(container: ClipContainer) -> Signature:
    return Signature(FileFamily.CLIP, container, container)


def _iso_media(brand: bytes) -> Signature:
    if brand in STILL_BRANDS:
        return Signature(FileFamily.PICTURE, "HEIF")
    if brand == b"qt  ":
        return _clip(ClipContainer.QUICKTIME)
    return _clip(ClipContainer.THREE_GP if brand.startswith((b"3g", b"3G")) else ClipContainer.MP4)


def _document_type(head: bytes) -> bytes:
    """Matroska's name of what is in the file, from its header, which is short."""
    at = head.find(DOCUMENT_TYPE) + len(DOCUMENT_TYPE)
    if at < len(DOCUMENT_TYPE) or at >= len(head):
        return b""
    return head[at + 1 : at + 1 + (head[at] & 0x7F)]


def _riff(form: bytes) -> Signature:
    if form.startswith(b"AVI"):
        return _clip(ClipContainer.AVI)
    if form == b"WEBP":
        return Signature(FileFamily.PICTURE, "WebP")
    return Signature(FileFamily.UNKNOWN, "")
