"""What a detector's child gets to look at: a photo, or a picture that is decoded already. Runs in a sandbox's
child only."""

from typing import Any, TypeAlias

import numpy as np

from mesh.photo_decoding import DecodedPhoto, decode, read_content

# A photo's content or path, or the fields of a detector.DecodedPicture.
Input: TypeAlias = bytes | str | list[Any]


def decoded(photo: Input, min_side: int, max_pixels: int, *, both_sides: bool = False) -> DecodedPhoto:
    """`min_side` and `both_sides` are those of `decode`, for photos. Raises what `decode` and `read_content`
    raise."""
    if not isinstance(photo, list):
        return decode(read_content(photo), min_side, max_pixels, both_sides=both_sides)
    pixels, pixels_width, pixels_height, width, height = photo
    return DecodedPhoto(
        np.frombuffer(pixels, np.uint8).reshape(pixels_height, pixels_width, 3), width, height
    )
