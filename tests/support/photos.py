"""Photos for tests whose content is known. They are downloaded to the cache once, or made there."""

import os
from pathlib import Path

import cv2
import numpy as np

from deploy.samples import ANNOTATED, SKIMAGE, samples

CACHE = Path(os.environ.get("LARES_CACHE", "~/.cache/lares")).expanduser()
NOISE_SEED, NOISE, QUALITY = 1, 6.0, 90


def people() -> list[Path]:
    """JPEGs of 500 to 640 pixels; the first one shows a walker in a park with others behind them."""
    return _annotated("000000193245.jpg", "000000086956.jpg", "000000424349.jpg", "2008_003182.jpg")


def animals() -> list[Path]:
    """JPEGs of a cat, an owl, and three cows on a beach."""
    return _annotated("2009_004382.jpg", "2009_004315.jpg", "2007_000464.jpg")


def vehicles() -> list[Path]:
    """A PNG of a motorcycle in a garage."""
    return [samples(CACHE, SKIMAGE)["motorcycle_left.png"]]


def vehicle_photo() -> Path:
    """A JPEG of the motorcycle of `vehicles`."""
    made = CACHE / "samples" / "motorcycle.jpg"
    if not made.exists():
        picture = cv2.imread(str(vehicles()[0]))
        assert picture is not None
        _write_jpeg(made, picture)
    return made


def empty_photo() -> Path:
    """A JPEG of a harbour that shows no person and no other watched label."""
    (photo,) = _annotated("000000573008.jpg")
    return photo


def small_photos() -> list[Path]:
    """JPEGs of at most 640 pixels, with people or animals, and one with neither."""
    return [*people(), *animals(), empty_photo()]


def person_photo() -> Path:
    """A JPEG of 1920 x 1080 pixels, half a megabyte: the walker of `people`, with the noise of a sensor."""
    made = CACHE / "samples" / "walker-1080p.jpg"
    if not made.exists():
        small = cv2.imread(str(people()[0]))
        assert small is not None
        wide = cv2.resize(small, (1920, 1440), interpolation=cv2.INTER_CUBIC)[180:1260].astype(np.float32)
        wide += np.random.default_rng(NOISE_SEED).normal(0, NOISE, wide.shape).astype(np.float32)
        _write_jpeg(made, np.clip(wide, 0, 255).astype(np.uint8))
    return made


def renumbered(photo: Path, number: int) -> bytes:
    """The JPEG with a number in a comment: the same pixels, but another photo."""
    content, comment = photo.read_bytes(), f"number {number}".encode()
    return content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + content[2:]


def _write_jpeg(path: Path, picture: cv2.typing.MatLike) -> None:
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_bytes(jpeg.tobytes())
    partial.rename(path)


def _annotated(*names: str) -> list[Path]:
    photos = samples(CACHE, ANNOTATED)
    return [photos[name] for name in names]
