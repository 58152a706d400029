"""Decodes photos to upright RGB, scaled down while decoding. Runs in a sandbox's child only."""

import io
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from mesh.image_headers import (
    JPEG_SIGNATURE,
    PNG_SIGNATURE,
    ImageFormat,
    MalformedHeader,
    TruncatedHeader,
    exif_orientation,
    image_size,
)
from mesh.processes.sandbox_child import InputRefused

if TYPE_CHECKING:
    from PIL import Image

# The signature, and the start of the first segment.
JPEG_START = JPEG_SIGNATURE + b"\xff"
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
    """A JPEG is scaled down as far as its longer side (with `both_sides`: each side) keeps `min_side` pixels
    or more. A PNG keeps its size.

    Raises InputRefused with the name of a RejectionReason: ZERO_BYTE, NOT_AN_IMAGE, TOO_MANY_PIXELS,
    TRUNCATED, CORRUPT.
    """
    if not content:
        raise InputRefused("the file is empty", "ZERO_BYTE")
    if content.startswith(JPEG_START):
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
    if _swaps_sides(orientation):
        width, height = height, width
    return DecodedPhoto(_turn_upright(pixels, orientation), width, height)


def _jpeg_pixels(content: bytes, bounds: dict[str, int]) -> NDArray[np.uint8]:
    try:
        return simplejpeg.decode_jpeg(content, "RGB", **bounds)  # type: ignore[no-any-return]
    except ValueError as error:
        if HARMLESS not in str(error) or not _has_end(content):
            raise
    return simplejpeg.decode_jpeg(content, "RGB", strict=False, **bounds)  # type: ignore[no-any-return]


def _jpeg_refusal(content: bytes, error: str) -> InputRefused:
    if PREMATURE_END in error or not _has_end(content):
        return InputRefused("the JPEG ends too early", "TRUNCATED")
    return InputRefused(f"the JPEG is corrupt: {error}", "CORRUPT")


def _decode_png(content: bytes, max_pixels: int) -> DecodedPhoto:
    try:
        size = image_size(content, ImageFormat.PNG)
    except TruncatedHeader:
        raise InputRefused("the PNG ends within its header", "TRUNCATED") from None
    except MalformedHeader as error:
        raise InputRefused(f"the PNG is corrupt: {error}", "CORRUPT") from None
    _check_size(size.width, size.height, max_pixels)
    from PIL import Image, ImageOps  # imported here because PNGs are rare and Pillow takes 5 MB

    Image.MAX_IMAGE_PIXELS = None  # `max_pixels` was checked above
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.load()
            pixels = _rgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, struct.error, LookupError) as error:
        if "truncated" in str(error) or not size.ended:
            raise InputRefused("the PNG ends too early", "TRUNCATED") from None
        raise InputRefused(f"the PNG is corrupt: {error}", "CORRUPT") from None
    return DecodedPhoto(pixels, pixels.shape[1], pixels.shape[0])


def _rgb(image: "Image.Image") -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's conversion to RGB clips it to white
        deep = np.asarray(image).astype(np.uint16)
        return np.repeat((deep >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    return np.array(image.convert("RGB"))


def _has_end(jpeg: bytes) -> bool:
    """Whether the file has its end marker. True for a malformed header: the file is corrupt, not
    truncated."""
    try:
        return image_size(jpeg, ImageFormat.JPEG).ended
    except TruncatedHeader:
        return False
    except MalformedHeader:
        return True


def _swaps_sides(orientation: int) -> bool:
    return orientation >= 5


def _turn_upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """`orientation` is 1 to 8, as EXIF numbers them."""
    if _swaps_sides(orientation):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if not width or not height:
        raise InputRefused("the image has no pixels", "CORRUPT")
    if width * height > max_pixels:
        raise InputRefused(f"{width} x {height} are more than {max_pixels} pixels", "TOO_MANY_PIXELS")
