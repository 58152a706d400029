"""The cheap checks: enough to refuse what can never be a photo, before anything decodes it."""

from dataclasses import dataclass
from enum import StrEnum

from ingest_svc import jpeg, png
from ingest_svc.content import Content
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


def inspect(content: Content, limits: Limits) -> Header | Refusal:
    """`content` is the whole file."""
    kind = inspect_head(content[:LOOKED_AT], limits, len(content))
    return _measured(content, kind, limits) if isinstance(kind, Kind) else kind


def inspect_head(head: bytes, limits: Limits, size: int) -> Kind | Refusal:
    """What can be said from a file's first LOOKED_AT bytes; `size` is that of the whole file."""
    if size == 0:
        return Refusal(Reason.ZERO_BYTE, "the file is empty")
    kind = signature(head)
    if kind.family not in (Family.JPEG, Family.PNG):
        return _not_taken(kind)
    if size > limits.bytes:
        return Refusal(Reason.TOO_MANY_BYTES, f"{size} bytes; {limits.bytes} are allowed")
    return Kind(kind.family.name)


def _not_taken(kind: Signature) -> Refusal:
    if kind.family is Family.VIDEO:
        return Refusal(Reason.VIDEO_NOT_YET, f"a {kind.name} video; videos are not taken yet")
    if kind.family is Family.PICTURE:
        return Refusal(Reason.NOT_AN_IMAGE, f"a {kind.name} picture; only JPEG and PNG are taken")
    return Refusal(Reason.NOT_AN_IMAGE, "neither JPEG nor PNG")


def _measured(content: Content, kind: Kind, limits: Limits) -> Header | Refusal:
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
