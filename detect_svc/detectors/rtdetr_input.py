"""A photo as RT-DETRv2's input: uint8 RGB, stretched to a square. Runs in a sandbox's child only."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detect_svc.detectors.photo_input import Input, decoded

# Bilinear interpolation skips pixels when it shrinks by more than this factor.
MAX_BILINEAR_SHRINK = 2


def square_input(photo: Input, side: int, max_pixels: int) -> tuple[NDArray[np.uint8], int, int]:
    """[side, side, 3], and the width and height of the upright photo.

    The model was trained on pictures that were stretched to a square by bilinear interpolation. Raises what
    `decoded` raises.
    """
    seen = decoded(photo, side, max_pixels, both_sides=True)
    height, width = seen.pixels.shape[:2]
    shrinks_much = min(height, width) > MAX_BILINEAR_SHRINK * side
    interpolation = cv2.INTER_AREA if shrinks_much else cv2.INTER_LINEAR
    pixels = cv2.resize(seen.pixels, (side, side), interpolation=interpolation)
    return np.asarray(pixels, np.uint8), seen.width, seen.height


def load(side: int, max_pixels: int) -> Callable[[Input], dict[str, Any]]:
    """The sandbox's target. Returns a function of an Input, which returns the pixels as
    bytes and raises what `square_input` raises."""
    cv2.setNumThreads(1)

    def prepare(photo: Input) -> dict[str, Any]:
        pixels, width, height = square_input(photo, side, max_pixels)
        return {"pixels": pixels.tobytes(), "width": width, "height": height}

    return prepare
