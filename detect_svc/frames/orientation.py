"""Which way up a JPEG is, from its EXIF header. Pure; never raises for what the header holds."""

import struct

import numpy as np
from numpy.typing import NDArray

UPRIGHT = 1
ORIENTATION_TAG = 0x0112
# After these the picture begins: no header follows.
LAST_MARKERS = {0xDA, 0xD9}
MAX_ENTRIES = 512


def exif_orientation(jpeg: bytes) -> int:
    """1..8 as EXIF counts them; 1 where it is missing or makes no sense."""
    at = 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        marker, size = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if marker in LAST_MARKERS:
            break
        if marker == 0xE1 and jpeg[at + 4 : at + 10] == b"Exif\0\0":
            return _from_tiff(jpeg[at + 10 : at + 2 + size])
        at += 2 + size
    return UPRIGHT


def _from_tiff(tiff: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return UPRIGHT
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    if directory + 2 > len(tiff):
        return UPRIGHT
    (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
    for index in range(min(entries, MAX_ENTRIES)):
        at = directory + 2 + 12 * index
        if at + 12 > len(tiff):
            break
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, at)
        if tag == ORIENTATION_TAG:
            return value if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT


def swaps_sides(orientation: int) -> bool:
    """Whether width and height change places."""
    return orientation >= 5


def turn_upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """[height, width, channels] as it was meant to be seen."""
    if swaps_sides(orientation):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
