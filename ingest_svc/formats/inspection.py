"""Checks the headers of files, and rejects what cannot be a photo before anything decodes it."""

from dataclasses import dataclass

from ingest_svc.formats.signature import SIGNATURE_BYTES, FileFamily, Signature, signature
from ingest_svc.rejection import RejectionCause, RejectReason
from mesh.image_headers import ByteSource, ImageEnd, ImageFormat, MalformedHeader, TruncatedHeader, image_size


@dataclass(frozen=True)
class PhotoLimits:
    """The largest photo that is accepted."""

    bytes: int
    pixels: int


@dataclass(frozen=True)
class PhotoHeader:
    """Width and height in pixels, before any EXIF rotation."""

    form: ImageFormat
    width: int
    height: int


def inspect(content: ByteSource, limits: PhotoLimits) -> PhotoHeader | RejectionCause:
    """Inspects a whole file."""
    form = inspect_head(content[:SIGNATURE_BYTES], limits, len(content))
    return _measure(content, form, limits) if isinstance(form, ImageFormat) else form


def inspect_head(head: bytes, limits: PhotoLimits, size: int) -> ImageFormat | RejectionCause:
    """Inspects the first `SIGNATURE_BYTES` of a file of `size` bytes."""
    if size == 0:
        return RejectionCause(RejectReason.ZERO_BYTE, "the file is empty")
    kind = signature(head)
    if kind.family not in (FileFamily.JPEG, FileFamily.PNG):
        return _not_a_photo(kind)
    if size > limits.bytes:
        return RejectionCause(RejectReason.TOO_MANY_BYTES, f"{size} bytes; {limits.bytes} are allowed")
    return ImageFormat(kind.family.name)


def _not_a_photo(kind: Signature) -> RejectionCause:
    if kind.family is FileFamily.VIDEO:
        detail = f"a {kind.name} video; videos are not accepted yet"
        return RejectionCause(RejectReason.VIDEO_NOT_YET, detail)
    if kind.family is FileFamily.PICTURE:
        detail = f"a {kind.name} picture; only JPEG and PNG are accepted"
        return RejectionCause(RejectReason.NOT_AN_IMAGE, detail)
    return RejectionCause(RejectReason.NOT_AN_IMAGE, "neither JPEG nor PNG")


def _measure(content: ByteSource, form: ImageFormat, limits: PhotoLimits) -> PhotoHeader | RejectionCause:
    try:
        size = image_size(content, form)
    except TruncatedHeader:
        return RejectionCause(RejectReason.TRUNCATED, f"the {form} file ends in its header")
    except MalformedHeader as error:
        return RejectionCause(RejectReason.CORRUPT, f"not a valid {form} file: {error}")
    if size.width * size.height > limits.pixels:
        detail = f"{size.width} x {size.height} pixels; {limits.pixels} are allowed"
        return RejectionCause(RejectReason.TOO_MANY_PIXELS, detail)
    if size.end is ImageEnd.MISSING:
        return RejectionCause(RejectReason.TRUNCATED, f"the {form} file's end is missing")
    return PhotoHeader(form, size.width, size.height)
