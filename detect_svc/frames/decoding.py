"""Decodes photos to upright RGB, scaled down while decoding. Runs in a sandbox's child only."""

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
# How far from the end of the file the end marker may be: cameras append padding and notes.
TAIL_BYTES = 64 * 1024
# A warning of libjpeg that costs no pixel: some cameras always write such files.
HARMLESS = "Invalid SOS parameters"
PREMATURE_END = "Premature end of JPEG file"


class DecodedPhoto(NamedTuple):
    """`pixels` is [h, w, 3] uint8, RGB, upright, possibly smaller than the photo; `width` and `height` are
    those of the whole upright photo."""

    pixels: NDArray[np.uint8]
    width: int
    height: int


def read_content(photo: bytes | str) -> bytes:
    """The content itself, or that of the file at the path. Raises InputRefused BLOB_NOT_FOUND if there is no
    file."""
    if isinstance(photo, bytes):
        return photo
    try:
        return Path(photo).read_bytes()
    except FileNotFoundError:
        raise InputRefused("this media's content is gone", "BLOB_NOT_FOUND") from None


def decode(content: bytes, min_side: int, max_pixels: int, *, both_sides: bool = False) -> DecodedPhoto:
    """A JPEG is scaled down while its longer side (or with `both_sides` the shorter one) stays at `min_side`
    pixels or more.

    Raises InputRefused with the name of a RejectionReason: ZERO_BYTE, NOT_AN_IMAGE, TOO_MANY_PIXELS,
    TRUNCATED, CORRUPT.
    """
    if not content:
        raise InputRefused("the file is empty", "ZERO_BYTE")
    if content.startswith(JPEG_SIGNATURE):
        return _decode_jpeg(content, min_side, max_pixels, both_sides)
    if content.startswith(PNG_SIGNATURE):
        return _decode_png(content, max_pixels)
    raise InputRefused("neither a JPEG nor a PNG", "NOT_AN_IMAGE")


def _decode_jpeg(content: bytes, min_side: int, max_pixels: int, both_sides: bool) -> DecodedPhoto:
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(content)
        _check_size(width, height, max_pixels)
        longer = "min_width" if width >= height else "min_height"
        bounds = ("min_width", "min_height") if both_sides else (longer,)
        pixels = _jpeg_pixels(content, dict.fromkeys(bounds, min_side))
    except (ValueError, KeyError) as error:
        raise _jpeg_refusal(content, str(error)) from None
    orientation = exif_orientation(content)
    if swaps_sides(orientation):
        width, height = height, width
    return DecodedPhoto(turn_upright(pixels, orientation), width, height)


def _jpeg_pixels(content: bytes, bounds: dict[str, int]) -> NDArray[np.uint8]:
    try:
        return simplejpeg.decode_jpeg(content, "RGB", **bounds)  # type: ignore[no-any-return]
    except ValueError as error:
        if HARMLESS not in str(error) or not _has_end(content, JPEG_END):
            raise
    return simplejpeg.decode_jpeg(content, "RGB", strict=False, **bounds)  # type: ignore[no-any-return]


def _jpeg_refusal(content: bytes, error: str) -> InputRefused:
    if PREMATURE_END in error or not _has_end(content, JPEG_END):
        return InputRefused("the JPEG ends too early", "TRUNCATED")
    return InputRefused(f"the JPEG is corrupt: {error}", "CORRUPT")


def _decode_png(content: bytes, max_pixels: int) -> DecodedPhoto:
    if len(content) < PNG_HEADER_BYTES:
        raise InputRefused("the PNG ends within its header", "TRUNCATED")
    width, height = struct.unpack_from(">II", content, 16)
    _check_size(width, height, max_pixels)
    from PIL import Image, ImageOps  # imported here because PNGs are rare and Pillow takes 5 MB

    Image.MAX_IMAGE_PIXELS = None  # `max_pixels` was checked above
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.load()
            pixels = _rgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, struct.error, LookupError) as error:
        if "truncated" in str(error) or not _has_end(content, PNG_END):
            raise InputRefused("the PNG ends too early", "TRUNCATED") from None
        raise InputRefused(f"the PNG is corrupt: {error}", "CORRUPT") from None
    return DecodedPhoto(pixels, pixels.shape[1], pixels.shape[0])


def _rgb(image: "Image.Image") -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's conversion to RGB clips it to white
        deep = np.asarray(image).astype(np.uint16)
        return np.repeat((deep >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    return np.array(image.convert("RGB"))


def _has_end(content: bytes, marker: bytes) -> bool:
    return marker in content[-TAIL_BYTES:]


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if not width or not height:
        raise InputRefused("the image has no pixels", "CORRUPT")
    if width * height > max_pixels:
        raise InputRefused(f"{width} x {height} are more than {max_pixels} pixels", "TOO_MANY_PIXELS")
