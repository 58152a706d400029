"""Foreign bytes -> upright RGB, scaled down while decoding. Runs in a sandbox's child only."""

import io
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from detect_svc.frames.orientation import exif_orientation, swaps_sides, turn_upright
from mesh.processes.sandbox_child import InputRefused

if TYPE_CHECKING:
    from PIL import Image

JPEG_SIGNATURE = b"\xff\xd8\xff"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_END, PNG_END = b"\xff\xd9", b"IEND"
PNG_HEADER_BYTES = 33
# Where the end marker may lie: cameras append padding and notes.
TAIL_BYTES = 64 * 1024
# What libjpeg warns of although every pixel is right: some cameras write such files always.
HARMLESS = "Invalid SOS parameters"
PREMATURE = "Premature end of JPEG file"


class DecodedPhoto(NamedTuple):
    """`pixels`: [h, w, 3] uint8, RGB, upright, possibly smaller than the photo; `width`, `height`: of the
    upright photo in full."""

    pixels: NDArray[np.uint8]
    width: int
    height: int


def content_of(photo: bytes | str) -> bytes:
    """The content itself, or what lies at the path. Raises Refused BLOB_NOT_FOUND where nothing does."""
    if isinstance(photo, bytes):
        return photo
    try:
        return Path(photo).read_bytes()
    except FileNotFoundError:
        raise InputRefused("this media's content is gone", "BLOB_NOT_FOUND") from None


def decode(data: bytes, least: int, max_pixels: int, *, both: bool = False) -> DecodedPhoto:
    """The picture with its longer side (or `both`) at `least` pixels or more, where the photo has as many.

    Raises Refused with the name of a RejectionReason: ZERO_BYTE, NOT_AN_IMAGE, TOO_MANY_PIXELS, TRUNCATED,
    CORRUPT.
    """
    if not data:
        raise InputRefused("the file is empty", "ZERO_BYTE")
    if data.startswith(JPEG_SIGNATURE):
        return _decode_jpeg(data, least, max_pixels, both)
    if data.startswith(PNG_SIGNATURE):
        return _decode_png(data, max_pixels)
    raise InputRefused("neither a JPEG nor a PNG", "NOT_AN_IMAGE")


def _decode_jpeg(data: bytes, least: int, max_pixels: int, both: bool) -> DecodedPhoto:
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        _bound(width, height, max_pixels)
        longer = "min_width" if width >= height else "min_height"
        names = ("min_width", "min_height") if both else (longer,)
        pixels = _pixels_of_jpeg(data, dict.fromkeys(names, least))
    except (ValueError, KeyError) as error:
        raise _broken_jpeg(data, str(error)) from None
    orientation = exif_orientation(data)
    if swaps_sides(orientation):
        width, height = height, width
    return DecodedPhoto(turn_upright(pixels, orientation), width, height)


def _pixels_of_jpeg(data: bytes, bounds: dict[str, int]) -> NDArray[np.uint8]:
    try:
        return simplejpeg.decode_jpeg(data, "RGB", **bounds)  # type: ignore[no-any-return]
    except ValueError as error:
        if HARMLESS not in str(error) or not _has_end(data, JPEG_END):
            raise
    return simplejpeg.decode_jpeg(data, "RGB", strict=False, **bounds)  # type: ignore[no-any-return]


def _broken_jpeg(data: bytes, why: str) -> InputRefused:
    if PREMATURE in why or not _has_end(data, JPEG_END):
        return InputRefused("the JPEG ends too early", "TRUNCATED")
    return InputRefused(f"not a sound JPEG: {why}", "CORRUPT")


def _decode_png(data: bytes, max_pixels: int) -> DecodedPhoto:
    if len(data) < PNG_HEADER_BYTES:
        raise InputRefused("the PNG ends within its header", "TRUNCATED")
    width, height = struct.unpack_from(">II", data, 16)
    _bound(width, height, max_pixels)
    from PIL import Image, ImageOps  # here, because PNG is rare and this is 5 MB

    # Its limit is for callers who do not look first.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()
            pixels = _rgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, struct.error, LookupError) as error:
        if "truncated" in str(error) or not _has_end(data, PNG_END):
            raise InputRefused("the PNG ends too early", "TRUNCATED") from None
        raise InputRefused(f"not a sound PNG: {error}", "CORRUPT") from None
    return DecodedPhoto(pixels, pixels.shape[1], pixels.shape[0])


def _rgb(image: "Image.Image") -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16-bit grey, which a plain conversion would clip to white
        deep = np.asarray(image).astype(np.uint16)
        return np.repeat((deep >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    return np.array(image.convert("RGB"))


def _has_end(data: bytes, marker: bytes) -> bool:
    return marker in data[-TAIL_BYTES:]


def _bound(width: int, height: int, max_pixels: int) -> None:
    if not width or not height:
        raise InputRefused("the image has no pixels", "CORRUPT")
    if width * height > max_pixels:
        raise InputRefused(f"{width} x {height} are more than {max_pixels} pixels", "TOO_MANY_PIXELS")
