"""The port that every detector implements. Its adapters are in this package; `factory` chooses one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from lares.detect.v1.detection_pb2 import Frame
from mesh.problems import Unavailable


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """A picture that is decoded already, of a clip: `pixels` is RGB, row by row, upright; `pixels_width` and
    `pixels_height` may be smaller than the frame's own `width` and `height`."""

    pixels: bytes
    pixels_width: int
    pixels_height: int
    width: int
    height: int


# The content of a photo, or the path of a file that holds it, or a decoded picture.
Photo: TypeAlias = bytes | Path | DecodedPicture

DIGEST_LENGTH = 12


@dataclass(frozen=True, slots=True)
class ServerState:
    """A server that a detector sends requests to. `available` is False while it gets none after a failure."""

    address: str
    available: bool
    in_flight: int
    answered: int
    failed: int


class DetectorNotReady(Unavailable):
    """None of the detector's servers is ready yet. Opening it may succeed later."""


class Detector(Protocol):
    """Finds objects in photos. Safe to call concurrently.

    The result depends on the photo and the weights alone, not on other photos in flight, the number of
    threads, or earlier calls.
    """

    name: str
    digest: str  # hex SHA-256 of the weights
    labels: tuple[str, ...]  # canonical names of all classes it can find
    input_size: tuple[int, int]  # width, height in pixels
    threshold: float  # default least score of a detection that counts
    fast_threshold: float  # default least score at which a person's event is assessed before it closes
    photos_in_flight: int  # how many concurrent calls keep it busy

    async def detect(self, photo: Photo) -> Frame:
        """Returns everything that the model finds in a JPEG, a PNG or a picture, best first, as
        `frame_message` makes it: without a capture time.

        Raises Invalid with the name of a RejectionReason if the photo is at fault, Invalid with another
        reason if only this photo cannot be detected, NotFound if there is no file at the path, Unavailable if
        the detector cannot be reached or fails, and Crashed and Hung of mesh.processes.sandbox.
        """
        ...

    async def check(self) -> None:
        """Raises Unavailable while it cannot detect."""
        ...

    def servers(self) -> Sequence[ServerState]:
        """The servers that it uses; empty for a detector on this machine."""
        ...


def detector_id(detector: Detector) -> str:
    """Name and weights digest, such as `efficientdet-lite0@1a2b3c4d5e6f`; part of every detection's id."""
    return f"{detector.name}@{detector.digest[:DIGEST_LENGTH]}"
