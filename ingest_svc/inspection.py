"""The cheap checks: enough to refuse what can never be a photo, before anything decodes it."""

from dataclasses import dataclass
from enum import StrEnum

from ingest_svc import jpeg, png
from ingest_svc.refusal import Reason, Refusal
from ingest_svc.signature import LOOKED_AT, Family, Signature, signature


class Kind(StrEnum):
    JPEG = "JPEG"
    PNG = "PNG"


@dataclass(frozen=True)
class Limits:
    bytes: int
    pixels: int


@dataclass(frozen=True)
class Header:
    """What the file says of itself; width and height in pixels, before any EXIF rotation."""

    kind: Kind
    width: int
    height: int


def inspect(content: bytes, limits: Limits, size: int | None = None) -> Header | Refusal:
    """`content` is the whole file, or at least its first LOOKED_AT bytes where it is larger than the limit;
    then `size` says how large."""
    size = len(content) if size is None else size
    if size == 0:
        return Refusal(Reason.ZERO_BYTE, "the file is empty")
    kind = signature(content[:LOOKED_AT])
    if kind.family not in (Family.JPEG, Family.PNG):
        return _not_taken(kind)
    if size > limits.bytes:
        return Refusal(Reason.TOO_MANY_BYTES, f"{size} bytes; {limits.bytes} are allowed")
    return _measured(content, Kind(kind.family.name), limits)


def _not_taken(kind: Signature) -> Refusal:
    if kind.family is Family.VIDEO:
        return Refusal(Reason.VIDEO_NOT_YET, f"a {kind.name} video; videos are not taken yet")
    if kind.family is Family.PICTURE:
        return Refusal(Reason.NOT_AN_IMAGE, f"a {kind.name} picture; only JPEG and PNG are taken")
    return Refusal(Reason.NOT_AN_IMAGE, "neither JPEG nor PNG")


def _measured(content: bytes, kind: Kind, limits: Limits) -> Header | Refusal:
    try:
        width, height, ended = (jpeg if kind is Kind.JPEG else png).size(content)
    except jpeg.Cut:
        return Refusal(Reason.TRUNCATED, f"the {kind} file ends in its header")
    except jpeg.Broken as error:
        return Refusal(Reason.CORRUPT, f"no {kind} file can be like this: {error}")
    if width * height > limits.pixels:
        return Refusal(Reason.TOO_MANY_PIXELS, f"{width} x {height} pixels; {limits.pixels} are allowed")
    if not ended:
        return Refusal(Reason.TRUNCATED, f"the {kind} file's end is missing")
    return Header(kind, width, height)
