"""The one decoder of photos: to upright RGB, scaled down while decoding. Runs in a sandbox's child only.

Detectors and thumbnails decode here, so that a detector's boxes are where people see the object. What
Pillow opens to its last row is decoded, with whatever flaws; a photo whose pixels end too early is refused.
No photo fails for its metadata: `mesh.image_metadata` reads them, and ignores what is malformed.
"""

import io
import os
import struct
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from mesh.image_headers import (
    JPEG_END,
    JPEG_SIGNATURE,
    PNG_SIGNATURE,
    ImageEnd,
    ImageFormat,
    ImageSize,
    MalformedHeader,
    TruncatedHeader,
    bare_jpeg,
    bare_png,
    image_size,
)
from mesh.image_metadata import orientation
from mesh.processes.sandbox_child import InputRefused

if TYPE_CHECKING:
    from PIL import Image

# The signature, and the start of the first segment.
JPEG_START = JPEG_SIGNATURE + b"\xff"
# How libjpeg's warnings begin after which it continues. "Premature end of JPEG file" is not among them.
WARNINGS = (
    "Corrupt JPEG data",
    "Inconsistent progression sequence",
    "Invalid SOS parameters",
    "Unknown Adobe color transform",
    "Warning: unknown JFIF revision",
)
# What simplejpeg raises for a malformed file.
TURBO_ERRORS = (ValueError, KeyError)
# What Pillow raises for a malformed file.
PILLOW_ERRORS = (OSError, SyntaxError, ValueError, struct.error, LookupError)


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
    size = _size(content, ImageFormat.JPEG, max_pixels)
    turn = orientation(content, ImageFormat.JPEG)
    if size.end is ImageEnd.PADDING:
        content = _with_end(content)
    wide = size.width >= size.height
    bounds = (min_side if wide or both_sides else 1, min_side if not wide or both_sides else 1)
    pixels = _jpeg_pixels(content, bounds)
    # A turn by 90 degrees swaps the sides.
    width, height = (size.height, size.width) if turn >= 5 else (size.width, size.height)
    return DecodedPhoto(_turn_upright(pixels, turn), width, height)


def _jpeg_pixels(content: bytes, bounds: tuple[int, int]) -> NDArray[np.uint8]:
    """`bounds` are the least width and height. Raises InputRefused."""
    try:
        return _turbo_pixels(content, bounds)
    except TURBO_ERRORS:
        bare = bare_jpeg(content)  # libjpeg's warnings about a header keep simplejpeg from decoding the rest
    try:
        return _turbo_pixels(bare, bounds)
    except TURBO_ERRORS:
        return _pillow_pixels(bare, bounds)


def _turbo_pixels(jpeg: bytes, bounds: tuple[int, int], *, strict: bool = False) -> NDArray[np.uint8]:
    """Unless `strict`, warnings about the pixels are ignored. Raises one of TURBO_ERRORS."""
    least = {"min_width": bounds[0], "min_height": bounds[1]}
    height, width, *_ = simplejpeg.decode_jpeg_header(jpeg, **least, strict=False)
    pixels = np.empty((height, width, 3), np.uint8)
    # simplejpeg (1.9.0) raises at the end of decoding, for warnings and errors alike; with strict=False for
    # neither, even if it has decoded no row. Random bytes in the last row show whether it got there.
    unwritten = np.frombuffer(os.urandom(3 * width), np.uint8).reshape(width, 3)
    pixels[-1] = unwritten
    try:
        simplejpeg.decode_jpeg(jpeg, "RGB", **least, buffer=pixels)
    except ValueError as error:
        if strict or not str(error).startswith(WARNINGS) or np.array_equal(pixels[-1], unwritten):
            raise
    return pixels


def _pillow_pixels(jpeg: bytes, bounds: tuple[int, int]) -> NDArray[np.uint8]:
    """Knows more ways to sample colours. Raises InputRefused."""
    pillow = _pillow()
    try:
        with pillow.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            image.draft("RGB", bounds)
            return _rgb(image)
    except PILLOW_ERRORS as error:
        raise _refusal(ImageFormat.JPEG, error) from None


def _with_end(padded: bytes) -> bytes:
    """The JPEG with an end marker in place of the zeros at its end.

    Raises InputRefused TRUNCATED if pixels are missing.
    """
    pixels = padded.rstrip(b"\x00")
    if pixels.endswith(b"\xff"):
        pixels += b"\x00"  # this zero belongs to the pixels
    jpeg = bare_jpeg(pixels + JPEG_END)
    try:
        _turbo_pixels(jpeg, (1, 1), strict=True)
    except TURBO_ERRORS:
        raise InputRefused("the JPEG ends too early", "TRUNCATED") from None
    return jpeg


def _decode_png(content: bytes, max_pixels: int) -> DecodedPhoto:
    _size(content, ImageFormat.PNG, max_pixels)
    pillow = _pillow()
    try:
        with pillow.open(io.BytesIO(bare_png(content)), formats=["PNG"]) as image:
            pixels = _rgb(image)
    except PILLOW_ERRORS as error:
        raise _refusal(ImageFormat.PNG, error) from None
    pixels = _turn_upright(pixels, orientation(content, ImageFormat.PNG))
    return DecodedPhoto(pixels, pixels.shape[1], pixels.shape[0])


def _pillow() -> ModuleType:
    """Pillow's module Image. It is imported when needed, because PNGs are rare and it takes 5 MB."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # the photo's size was checked before
    return Image


def _refusal(form: ImageFormat, error: Exception) -> InputRefused:
    """`error` is one of Pillow's."""
    if "truncated" in str(error):
        return InputRefused(f"the {form} ends too early", "TRUNCATED")
    return InputRefused(f"the {form} is corrupt: {error}", "CORRUPT")


def _size(content: bytes, form: ImageFormat, max_pixels: int) -> ImageSize:
    """Raises InputRefused, also for a file without an end."""
    try:
        size = image_size(content, form)
    except TruncatedHeader:
        raise InputRefused(f"the {form} ends within its header", "TRUNCATED") from None
    except MalformedHeader as error:
        raise InputRefused(f"the {form} is corrupt: {error}", "CORRUPT") from None
    if size.width * size.height > max_pixels:
        detail = f"{size.width} x {size.height} are more than {max_pixels} pixels"
        raise InputRefused(detail, "TOO_MANY_PIXELS")
    if size.end is ImageEnd.MISSING:
        raise InputRefused(f"the {form} ends too early", "TRUNCATED")
    return size


def _rgb(image: "Image.Image") -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's conversion to RGB clips it to white
        deep = np.asarray(image).astype(np.uint16)
        return np.repeat((deep >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    return np.asarray(image.convert("RGB"))


def _turn_upright(pixels: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """`turn` is an orientation, 1 to 8 as EXIF numbers them."""
    if turn >= 5:
        pixels = pixels.swapaxes(0, 1)
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
