"""What a detector is. Its adapters are chosen by LARES_DETECTOR_URL."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from mesh.config import Config
from mesh.problems import Invalid

Photo = bytes | Path

DIGEST_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Found:
    """One object in the raw output: `rank` counts there from 0, best first; `label` is canonical, `score`
    0..1, `box` [x_min, y_min, x_max, y_max] in 0..1 of the upright photo."""

    rank: int
    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Sight:
    """Everything the detector sees in one photo of `width` x `height` pixels (upright), best first."""

    found: Sequence[Found]
    width: int
    height: int


class Detector(Protocol):
    """Finds objects in photos. An answer depends on the photo and the weights alone: not on neighbours in
    flight, threads, or what came before. Safe to be called concurrently."""

    name: str
    digest: str  # hex SHA-256 of the weights
    labels: tuple[str, ...]  # canonical names of all that it can find
    input_size: tuple[int, int]  # width, height in pixels
    threshold: float  # least score that is worth telling, by measurement
    fast_threshold: float  # least score at which a person is judged at once, by measurement

    async def detect(self, photo: Photo) -> Sight:
        """`photo`: the content of a JPEG or PNG, or the path where it lies.

        Raises Invalid whose reason names a RejectionReason when the photo is at fault; NotFound when nothing
        lies at the path; sandbox.Crashed and sandbox.Hung; Unavailable when the detector cannot be reached.
        """
        ...

    async def check(self) -> None:
        """Raises Unavailable while it could not detect."""
        ...


def identity(detector: Detector) -> str:
    """Name and weights digest, `efficientdet-lite0@1a2b3c4d5e6f`: part of every detection's identity."""
    return f"{detector.name}@{detector.digest[:DIGEST_LENGTH]}"


def open_detector(config: Config) -> AbstractAsyncContextManager[Detector]:
    """The one that LARES_DETECTOR_URL names: `litert:efficientdet-lite0[?processes=2&threads=1]`.

    Raises Invalid BAD_SETTING for what is not there.
    """
    parts = urlsplit(config.detector_url)
    if parts.scheme != "litert" or parts.path != "efficientdet-lite0":
        raise Invalid(
            f"LARES_DETECTOR_URL: {config.detector_url!r} is not here; litert:efficientdet-lite0 is",
            "BAD_SETTING",
        )
    from detect_svc.litert import open_efficientdet_lite0

    options = _options(parts.query, ("processes", "threads"))
    return open_efficientdet_lite0(config.cache, config.ingest_max_pixels, **options)


def _options(query: str, known: tuple[str, ...]) -> dict[str, int]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in options.items():
        if name not in known or not value.isdigit() or not 1 <= int(value) <= 64:
            raise Invalid(
                f"LARES_DETECTOR_URL: {name}={value} is not one of {', '.join(known)}, 1 to 64", "BAD_SETTING"
            )
    return {name: int(value) for name, value in options.items()}
