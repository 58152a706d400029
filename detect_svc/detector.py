"""What a detector is. Its adapters are chosen by LARES_DETECTOR_URL."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mesh.config import Config
from mesh.problems import Unavailable

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


@dataclass(frozen=True, slots=True)
class ServerState:
    """A server that a detector asks. `available` is False while it is left alone after failures."""

    address: str
    available: bool
    in_flight: int
    answered: int
    failed: int


class Away(Unavailable):
    """No server of the detector's is there yet; it may come later."""


class Detector(Protocol):
    """Finds objects in photos. An answer depends on the photo and the weights alone: not on neighbours in
    flight, threads, or what came before. Safe to be called concurrently."""

    name: str
    digest: str  # hex SHA-256 of the weights
    labels: tuple[str, ...]  # canonical names of all that it can find
    input_size: tuple[int, int]  # width, height in pixels
    threshold: float  # least score that is worth telling
    fast_threshold: float  # least score at which a person is judged at once
    photos_in_flight: int  # how many at the same time keep it busy

    async def detect(self, photo: Photo) -> Sight:
        """`photo`: the content of a JPEG or PNG, or the path where it lies.

        Raises Invalid whose reason names a RejectionReason when the photo is at fault, and any other Invalid
        when only this photo cannot be detected; NotFound when nothing lies at the path; sandbox.Crashed and
        sandbox.Hung; Unavailable when the detector cannot be reached or fails.
        """
        ...

    async def check(self) -> None:
        """Raises Unavailable while it could not detect."""
        ...

    def servers(self) -> Sequence[ServerState]:
        """Those that it asks; none for a detector in this process."""
        ...


def identity(detector: Detector) -> str:
    """Name and weights digest, `efficientdet-lite0@1a2b3c4d5e6f`: part of every detection's identity."""
    return f"{detector.name}@{detector.digest[:DIGEST_LENGTH]}"


def open_detector(config: Config) -> AbstractAsyncContextManager[Detector]:
    """The one that LARES_DETECTOR_URL names; docs/detector.md has the forms of the URL.

    Raises Invalid BAD_SETTING for what is not there or makes no sense, Invalid MODEL_DOES_NOT_FIT, and, as
    the block is entered, Away while the servers that it names are not there yet.
    """
    from detect_svc.endpoint import FORMS, bad_setting, endpoint_of

    scheme, _, rest = config.detector_url.partition(":")
    path, _, query = rest.partition("?")
    if (scheme, path) == ("litert", "efficientdet-lite0"):
        from detect_svc.litert import open_litert

        return open_litert(config, query)
    if scheme == "onnx" and path:
        from detect_svc.onnx import open_onnx

        return open_onnx(config, Path(path), query)
    if scheme == "triton":
        from detect_svc.remote import open_remote

        return open_remote(config, endpoint_of(config.detector_url))
    raise bad_setting(f"{scheme}: is no detector; there are {FORMS}")
