"""A service process of the measurements with a stub in place of the detector: `lares up` as it is, run by
`python -m tests.bench.stubbed_service`.

The stub looks at no picture, but can take a fixed time for each, as a detector on a machine of its own would.
So replicas are measured, and not the cores that they share.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from detect_svc.detectors.detector import Photo
from lares.detect.v1.detection_pb2 import Frame
from mesh.config import Config
from tests.faults.stub_detector import StubDetector

PROGRAM = "tests.bench.stubbed_service"
# The variable with the seconds that the stub takes for a photo.
SECONDS = "BENCH_STUB_SECONDS"


class PacedStubDetector(StubDetector):
    """Takes one photo at a time, and always as long, as far as the clock can tell. Uses no CPU meanwhile."""

    name = "paced-stub-detector"

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._free_at = 0.0

    async def detect(self, photo: Photo) -> Frame:
        self._free_at = max(self._free_at, time.monotonic()) + self._seconds
        await asyncio.sleep(self._free_at - time.monotonic())
        return await super().detect(photo)


@asynccontextmanager
async def open_paced_stub_detector(config: Config) -> AsyncIterator[PacedStubDetector]:
    """In place of `open_detector`; LARES_DETECTOR_URL is not looked at."""
    yield PacedStubDetector(float(os.environ[SECONDS]))


def main(arguments: list[str]) -> None:
    """Runs the command line of Lares in this process."""
    from deploy.cli import main as run
    from detect_svc.detectors import opener

    setattr(opener, "open_detector", open_paced_stub_detector)  # noqa: B010
    run(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
