"""Checks the headers of files, and rejects what cannot be a photo or clip before anything decodes it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from ingest_svc.formats.clip_container import ClipContainer, ClipEnd, clip_extent
from ingest_svc.formats.signature import SIGNATURE_BYTES, FileFamily, Signature, signature
from ingest_svc.rejection import RejectionCause, RejectReason
from mesh.image_headers import ByteSource, ImageEnd, ImageFormat, MalformedHeader, TruncatedHeader, image_size


@dataclass(frozen=True)
class MediaLimits:
    """The largest photo and clip that are accepted. `pixels` applies to both. `clips_installed`: the packages
    that read clips are there; otherwise no clip is accepted."""

    bytes: int
    pixels: int
    clip_bytes: int = 0
    clip_length: timedelta = timedelta(0)
    clips_installed: bool = False

    @property
    def most_bytes(self) -> int:
        """Of a file of which nothing is known."""
        return max(self.bytes, self.clip_bytes if self.clips_installed else 0)


@dataclass(frozen=True)
class ClipProperties:
    """What the container says of a clip. `codec` is FFmpeg's name, `frame_rate` is 0 if it is not known,
    `rotation` in degrees counter-clockwise. `created` is the creation time as the container states it."""

    length: timedelta | None
    codec: str
    frame_rate: float
    rotation: int
    has_audio: bool
    created: datetime | None


@dataclass(frozen=True)
class MediaHeader:
    """Width and height in pixels, before any rotation. `clip` is set for clips."""

    form: ImageFormat | ClipContainer
    width: int
    height: int
    clip: ClipProperties | None = None


def inspect(content: ByteSource, limits: MediaLimits) -> MediaHeader | ClipContainer | RejectionCause:
    """Inspects a whole file. Of a clip it says only that nothing is missing in its container."""
    form = inspect_head(content[:SIGNATURE_BYTES], limits, len(content))
    if isinstance(form, ClipContainer):
        extent = clip_end(content, form)
        return extent if isinstance(extent, RejectionCause) else form
    return _measure(content, form, limits) if isinstance(form, ImageFormat) else form


def inspect_head(head: bytes, limits: MediaLimits, size: int) -> ImageFormat | ClipContainer | RejectionCause:
    """Inspects the first `SIGNATURE_BYTES` of a file of `size` bytes."""
    if size == 0:
        return RejectionCause(RejectReason.ZERO_BYTE, "the file is empty")
    kind = signature(head)
    if kind.family not in (FileFamily.JPEG, FileFamily.PNG, FileFamily.CLIP):
        return _not_accepted(kind)
    if kind.container is not None and not limits.clips_installed:
        detail = f"a clip ({kind.name}), and the packages for clips are not installed: lares[clips]"
        return RejectionCause(RejectReason.CLIPS_NOT_INSTALLED, detail)
    most = limits.bytes if kind.container is None else limits.clip_bytes
    if size > most:
        return RejectionCause(RejectReason.TOO_MANY_BYTES, f"{size} bytes; {most} are allowed")
    return kind.container or ImageFormat(kind.family.name)


def clip_end(content: ByteSource, container: ClipContainer) -> ClipEnd | RejectionCause:
    """WHOLE or OPEN; a clip of which something is missing is rejected as TRUNCATED."""
    try:
        extent = clip_extent(content, container)
    except MalformedHeader as error:
        return RejectionCause(RejectReason.CORRUPT, f"not a valid clip ({container}): {error}")
    if extent.end is ClipEnd.MISSING:
        detail = f"the clip ({container}) is not complete: {extent.missing} is missing"
        return RejectionCause(RejectReason.TRUNCATED, detail)
    return extent.end


def _not_accepted(kind: Signature) -> RejectionCause:
    if kind.family is FileFamily.VIDEO:
        return RejectionCause(RejectReason.UNSUPPORTED_VIDEO, f"{kind.name} videos are not accepted")
    if kind.family is FileFamily.PICTURE:
        detail = f"a {kind.name} picture; only JPEG and PNG are accepted"
        return RejectionCause(RejectReason.NOT_AN_IMAGE, detail)
    return RejectionCause(RejectReason.NOT_AN_IMAGE, "neither a JPEG or PNG nor a clip")


def _measure(content: ByteSource, form: ImageFormat, limits: MediaLimits) -> MediaHeader | RejectionCause:
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
    return MediaHeader(form, size.width, size.height)
