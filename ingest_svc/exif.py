"""When a photo says that it was taken: three EXIF tags, read without trusting any of the bytes."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from ingest_svc import jpeg
from ingest_svc.content import Content

# EXIF lies near the front; beyond this it is not looked for.
LOOKED_AT = 256 * 1024

EXIF_FOLDER, TAKEN, TAKEN_OFFSET, TAKEN_FRACTION = 0x8769, 0x9003, 0x9011, 0x9291
ASCII, LONG = 2, 4
MOST_ENTRIES = 512


@dataclass(frozen=True)
class Taken:
    """`local` has no zone; `offset` from UTC, None where the file does not say it."""

    local: datetime
    offset: timedelta | None


def taken(content: Content) -> Taken | None:
    """From a JPEG file, or its first LOOKED_AT bytes. None where it says nothing, or nothing that makes
    sense."""
    try:
        for segment in jpeg.segments(content[:LOOKED_AT]):
            body = content[segment.start : segment.end]
            if segment.marker == jpeg.APP1 and body.startswith(b"Exif\x00\x00"):
                return _from_tags(_tags(body[6:]))
    except (jpeg.Cut, jpeg.Broken):
        pass
    return None


def _tags(tiff: bytes) -> dict[int, str]:
    """The texts of the EXIF folder by tag; what is malformed is left out."""
    if tiff[:4] not in (b"II*\x00", b"MM\x00*"):
        return {}

    def number(at: int, length: int) -> int:
        return int.from_bytes(tiff[at : at + length], "little" if tiff[:1] == b"I" else "big")

    def entries(at: int) -> list[tuple[int, int, int, int]]:
        """(tag, type, count, where its value lies) of the folder at `at`."""
        count = min(number(at, 2), MOST_ENTRIES) if at + 2 <= len(tiff) else 0
        starts = range(at + 2, min(at + 2 + 12 * count, len(tiff) - 11), 12)
        return [(number(s, 2), number(s + 2, 2), number(s + 4, 4), s + 8) for s in starts]

    texts: dict[int, str] = {}
    for tag, kind, _, where in entries(number(4, 4)):
        if tag == EXIF_FOLDER and kind == LONG:
            for inner, inner_kind, length, value in entries(number(where, 4)):
                if inner in (TAKEN, TAKEN_OFFSET, TAKEN_FRACTION) and inner_kind == ASCII and length <= 64:
                    start = value if length <= 4 else number(value, 4)
                    text = tiff[start : start + length].partition(b"\x00")[0]
                    texts.setdefault(inner, text.decode("ascii", "replace").strip())
    return texts


def _from_tags(tags: dict[int, str]) -> Taken | None:
    try:
        local = datetime.strptime(tags.get(TAKEN, ""), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    fraction = tags.get(TAKEN_FRACTION, "")
    if fraction.isascii() and fraction.isdigit():
        local = local.replace(microsecond=int(fraction[:6].ljust(6, "0")))
    return Taken(local, _offset(tags.get(TAKEN_OFFSET, "")))


def _offset(text: str) -> timedelta | None:
    """Of `+02:00` or `Z`."""
    try:
        return datetime.strptime(text, "%z").utcoffset()
    except ValueError:
        return None
