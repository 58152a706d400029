"""Whatever a camera writes around its pixels, every part of Lares sees the same photo that people see: ingest
takes it, the detector gets it upright, and the thumbnail has the box where the thing is.

Pillow is the measure: `ImageOps.exif_transpose` for the orientation, what it opens to the last row for flaws.
"""

import io
import warnings
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from gateway.http.thumbnail_renderer import render
from ingest_svc.formats.inspection import MediaHeader, MediaLimits, inspect
from ingest_svc.rejection import RejectionCause, RejectReason
from mesh.photo_decoding import decode
from mesh.picture_drawing import COLOURS, LINE_WIDTH
from mesh.processes.sandbox_child import InputRefused
from tests.support.photo_variants import (
    HEIGHT,
    THING,
    WIDTH,
    cut,
    formats,
    jpeg_flaws,
    jpeg_metadata,
    png_flaws,
    png_metadata,
)

MAX_PIXELS = 2_000_000
LIMITS = MediaLimits(bytes=2**24, pixels=MAX_PIXELS)
TAKEN = {
    f"{group}: {variant.name}": variant
    for group, variants in {
        "format": formats(),
        "JPEG metadata": jpeg_metadata(),
        "PNG metadata": png_metadata(),
        "JPEG flaw": jpeg_flaws(),
        "PNG flaw": png_flaws(),
    }.items()
    for variant in variants
}
CUT = {variant.name: variant for variant in cut()}
# Pillow gives up on these, or opens them only in one of the two formats, though all pixels are there.
BETTER_THAN_PILLOW = [
    "JPEG metadata: a short Adobe segment",
    "JPEG metadata: Exif that is no TIFF",
    "JPEG metadata: Exif of 5 bytes",
    "JPEG flaw: * zeros for the end",
    "PNG metadata: *",
    "PNG flaw: a wrong checksum of a text",
]


def test_there_are_enough_of_them() -> None:
    assert len(TAKEN) >= 150
    assert len(CUT) >= 40


@pytest.mark.parametrize("name", TAKEN)
def test_every_part_sees_the_same_photo(name: str, tmp_path: Path) -> None:
    variant = TAKEN[name]
    header = inspect(variant.content, LIMITS)
    assert isinstance(header, MediaHeader), header

    photo = decode(variant.content, WIDTH, MAX_PIXELS)
    assert (photo.width, photo.height) == (WIDTH, HEIGHT)
    assert {header.width, header.height} == {WIDTH, HEIGHT}
    assert photo.pixels.shape == (HEIGHT, WIDTH, 3)
    scaled_down = decode(variant.content, 100, MAX_PIXELS)
    assert (scaled_down.width, scaled_down.height) == (WIDTH, HEIGHT)
    if not variant.damaged:
        for pixels in (photo.pixels, scaled_down.pixels):
            assert thing(pixels) == pytest.approx(THING, abs=0.02)

    path = tmp_path / "photo"
    path.write_bytes(variant.content)
    thumbnail = render(str(path), [("dog", 0.9, *THING)], MAX_PIXELS)
    with Image.open(io.BytesIO(thumbnail)) as drawn:
        seen = np.asarray(drawn.convert("RGB")).astype(int)
    assert seen.shape == (HEIGHT, WIDTH, 3)
    if not variant.damaged:
        assert_box_around_the_thing(seen)

    upright = pillow(variant.content)
    if upright is None:
        assert any(fnmatch(name, known) for known in BETTER_THAN_PILLOW), "Pillow cannot open it"
    else:
        assert upright.shape == photo.pixels.shape
        assert np.abs(upright.astype(int) - photo.pixels).mean() < 2


@pytest.mark.parametrize("name", CUT)
def test_what_ends_too_early_is_truncated(name: str, tmp_path: Path) -> None:
    """Zeros in place of the end can be a camera's padding: only the decoder can tell, and does."""
    content = CUT[name].content
    taken = inspect(content, LIMITS)
    if isinstance(taken, RejectionCause):
        assert taken.reason in (RejectReason.TRUNCATED, RejectReason.CORRUPT)
        assert taken.reason is RejectReason.TRUNCATED or name.endswith("zeros")
    else:
        assert name.endswith(" 512 zeros")
    with pytest.raises(InputRefused) as refused:
        decode(content, WIDTH, MAX_PIXELS)
    assert refused.value.reason == "TRUNCATED"
    path = tmp_path / "photo"
    path.write_bytes(content)
    with pytest.raises(InputRefused) as refused:
        render(str(path), [], MAX_PIXELS)
    assert refused.value.reason == "NOT_DRAWABLE"


def pillow(content: bytes) -> NDArray[np.uint8] | None:
    """The upright photo as Pillow reads it; None if it cannot."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(content)) as image:
                upright = ImageOps.exif_transpose(image)
                if upright.mode.startswith("I"):
                    upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
                return np.asarray(upright.convert("RGB"))
        except Exception:
            return None


def thing(pixels: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """The edges of the bright thing, in 0..1."""
    rows, columns = np.nonzero(pixels.mean(axis=2) > 150)
    height, width = pixels.shape[:2]
    return (
        columns.min() / width,
        rows.min() / height,
        (columns.max() + 1) / width,
        (rows.max() + 1) / height,
    )


def assert_box_around_the_thing(seen: NDArray[np.int_]) -> None:
    x_min, y_min, x_max, y_max = (
        round(edge * side) for edge, side in zip(THING, (WIDTH, HEIGHT) * 2, strict=True)
    )
    x, y, inset = (x_min + x_max) // 2, (y_min + y_max) // 2, LINE_WIDTH + 4
    for row, column in ((y, x_min + 1), (y, x_max - 2), (y_max - 2, x)):
        assert np.abs(seen[row, column] - COLOURS["dog"]).max() < 90
    for row, column in ((y, x), (y, x_min + inset), (y, x_max - inset), (y_max - inset, x)):
        assert seen[row, column].min() > 200  # the thing
    for row, column in ((y, x_min - 4), (y, x_max + 4), (y_max + 4, x)):
        assert seen[row, column].max() < 110  # what is around it
