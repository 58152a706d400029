"""A photo as RT-DETRv2 wants it: uint8 RGB, stretched into a square_input. Runs in a sandbox's child only."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detect_svc.frames.decoding import content_of, decode

# Shrinking by more than this leaves out pixels between those that bilinear interpolation looks at.
COARSE = 2


def square_input(photo: bytes | str, side: int, max_pixels: int) -> tuple[NDArray[np.uint8], int, int]:
    """[side, side, 3], and width and height of the upright photo. Bilinear, proportions given up: so the
    model was trained. Refuses what `decode` and `content_of` refuse."""
    picture = decode(content_of(photo), side, max_pixels, both=True)
    height, width = picture.pixels.shape[:2]
    coarse = min(height, width) > COARSE * side
    way = cv2.INTER_AREA if coarse else cv2.INTER_LINEAR
    pixels = cv2.resize(picture.pixels, (side, side), interpolation=way)
    return np.asarray(pixels, np.uint8), picture.width, picture.height


def load(side: int, max_pixels: int) -> Callable[[bytes | str], dict[str, Any]]:
    """The sandbox's target: a photo's content, or the path where it lies -> its square_input as bytes."""
    cv2.setNumThreads(1)

    def fit(photo: bytes | str) -> dict[str, Any]:
        pixels, width, height = square_input(photo, side, max_pixels)
        return {"pixels": pixels.tobytes(), "width": width, "height": height}

    return fit
