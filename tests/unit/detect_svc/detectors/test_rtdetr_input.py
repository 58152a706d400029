"""Photos as RT-DETRv2 wants them."""

import io

import numpy as np
import pytest
from PIL import Image

from detect_svc.detectors.rtdetr_input import load, square_input
from detect_svc.frames.decoding import decode
from mesh.processes.sandbox_child import InputRefused

SIDE, MOST = 160, 64_000_000


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
    pixels, wide, high = square_input(jpeg(width, height), SIDE, MOST)
    assert (pixels.shape, wide, high) == ((SIDE, SIDE, 3), width, height)
    assert pixels.dtype == np.uint8
    for y in (2, SIDE - 3):
        assert pixels[y, 4].argmax() == 0
        assert pixels[y, SIDE - 5].argmax() == 2


@pytest.mark.parametrize(("width", "height"), [(1920, 400), (400, 1920)])
def test_neither_side_is_decoded_smaller_than_the_square(width: int, height: int) -> None:
    content = jpeg(width, height)
    assert min(decode(content, SIDE, MOST, both=True).pixels.shape[:2]) >= SIDE
    assert min(decode(content, SIDE, MOST).pixels.shape[:2]) < SIDE


def test_what_a_wide_photo_shows_up_and_down_is_not_lost_in_decoding() -> None:
    stripes = np.zeros((400, 1920, 3), np.uint8)
    stripes[np.arange(400) % 8 < 4] = 255
    file = io.BytesIO()
    Image.fromarray(stripes).save(file, "JPEG", quality=95)
    pixels, _, _ = square_input(file.getvalue(), SIDE, MOST)
    assert pixels.std() > 60


def test_fine_patterns_become_their_mean_where_much_is_left_out() -> None:
    board = np.indices((1600, 1600)).sum(axis=0) // 1 % 2 * 255
    file = io.BytesIO()
    Image.fromarray(board.astype(np.uint8)).save(file, "PNG")
    pixels, _, _ = square_input(file.getvalue(), SIDE, MOST)
    assert np.abs(pixels.astype(int) - 127).max() <= 2


def test_a_child_says_it_in_bytes_and_refuses_by_reason() -> None:
    fit = load(SIDE, MOST)
    answer = fit(jpeg(320, 200))
    assert (len(answer["pixels"]), answer["width"], answer["height"]) == (SIDE * SIDE * 3, 320, 200)
    for photo, reason in ((b"no image", "NOT_AN_IMAGE"), ("/nowhere/x", "BLOB_NOT_FOUND")):
        with pytest.raises(InputRefused) as refused:
            fit(photo)
        assert refused.value.reason == reason
