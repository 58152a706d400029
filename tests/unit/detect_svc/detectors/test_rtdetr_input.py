"""Photos as RT-DETRv2's input."""

import io

import numpy as np
import pytest
from PIL import Image

from detect_svc.detectors.rtdetr_input import load, square_input
from mesh.photo_decoding import decode
from mesh.processes.sandbox_child import InputRefused

SIDE, MAX_PIXELS = 160, 64_000_000


def jpeg(width: int, height: int, right: tuple[int, int, int] = (0, 0, 255)) -> bytes:
    """Red on the left, `right` on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2] = (255, 0, 0)
    pixels[:, width // 2 :] = right
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.mark.parametrize(("width", "height"), [(1920, 400), (400, 1920), (100, 60), (161, 159)])
def test_the_square_is_filled_with_the_whole_photo(width: int, height: int) -> None:
    pixels, read_width, read_height = square_input(jpeg(width, height), SIDE, MAX_PIXELS)
    assert (pixels.shape, read_width, read_height) == ((SIDE, SIDE, 3), width, height)
    assert pixels.dtype == np.uint8
    for y in (2, SIDE - 3):
        assert pixels[y, 4].argmax() == 0
        assert pixels[y, SIDE - 5].argmax() == 2


@pytest.mark.parametrize(("width", "height"), [(1920, 400), (400, 1920)])
def test_neither_side_is_decoded_smaller_than_the_square(width: int, height: int) -> None:
    content = jpeg(width, height)
    assert min(decode(content, SIDE, MAX_PIXELS, both_sides=True).pixels.shape[:2]) >= SIDE
    assert min(decode(content, SIDE, MAX_PIXELS).pixels.shape[:2]) < SIDE


def test_horizontal_stripes_of_a_wide_photo_survive_decoding() -> None:
    stripes = np.zeros((400, 1920, 3), np.uint8)
    stripes[np.arange(400) % 8 < 4] = 255
    file = io.BytesIO()
    Image.fromarray(stripes).save(file, "JPEG", quality=95)
    pixels, _, _ = square_input(file.getvalue(), SIDE, MAX_PIXELS)
    assert pixels.std() > 60


def test_a_fine_pattern_becomes_its_mean_when_it_shrinks_a_lot() -> None:
    board = np.indices((1600, 1600)).sum(axis=0) // 1 % 2 * 255
    file = io.BytesIO()
    Image.fromarray(board.astype(np.uint8)).save(file, "PNG")
    pixels, _, _ = square_input(file.getvalue(), SIDE, MAX_PIXELS)
    assert np.abs(pixels.astype(int) - 127).max() <= 2


def test_the_sandbox_target_returns_bytes_and_refuses_with_a_reason() -> None:
    prepare = load(SIDE, MAX_PIXELS)
    result = prepare(jpeg(320, 200))
    assert (len(result["pixels"]), result["width"], result["height"]) == (SIDE * SIDE * 3, 320, 200)
    for photo, reason in ((b"no image", "NOT_AN_IMAGE"), ("/nowhere/x", "BLOB_NOT_FOUND")):
        with pytest.raises(InputRefused) as refused:
            prepare(photo)
        assert refused.value.reason == reason
