"""`lares model check`: runs one photo through the detector that detect_svc would use, and times it."""

import asyncio
import time
from pathlib import Path
from statistics import median

from deploy.samples import ANNOTATED, samples
from detect_svc.detectors.detector import Detector, detector_id
from detect_svc.detectors.factory import open_detector
from lares.detect.v1.detection_pb2 import Frame
from mesh.boxes import edges
from mesh.config import Config
from mesh.problems import Invalid
from mesh.telemetry.redaction import redacted_url
from mesh.visible_text import visible

# A person walking in a park, with others behind.
SAMPLE = "000000193245.jpg"
# How many findings are printed if none reaches the threshold.
MAX_UNSURE = 5


async def check(config: Config, photo: Path | None, calls: int) -> None:
    """Prints the findings of the detector that LARES_DETECTOR_URL names, and timings. Without `photo` it uses
    a sample, which is fetched once.

    Raises what opening the detector and `detect` raise, and Invalid if the photo cannot be read.
    """
    content = await asyncio.to_thread(_content, config, photo)
    async with open_detector(config) as detector:
        print(f"{redacted_url(config.detector_url)}\n{describe(detector)}", flush=True)
        frame, seconds = await time_calls(detector, content, calls)
        print(f"\n{visible(photo.name) if photo else SAMPLE}, {frame.width} x {frame.height} pixels")
        print(findings_table(frame, detector.threshold))
        print(f"\n{timings(seconds)}")


def _content(config: Config, photo: Path | None) -> bytes:
    path = photo or samples(config.cache, ANNOTATED)[SAMPLE]
    try:
        return path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror or error}", "NO_PHOTO") from None


async def time_calls(detector: Detector, content: bytes, calls: int) -> tuple[Frame, list[float]]:
    """Makes the calls one after another. Returns the last result and the seconds of each call; the first call
    may include warming up."""
    seconds = []
    for _ in range(calls):
        begun = time.perf_counter()
        frame = await detector.detect(content)
        seconds.append(time.perf_counter() - begun)
    return frame, seconds


def describe(detector: Detector) -> str:
    width, height = detector.input_size
    return f"{detector_id(detector)}: {len(detector.labels)} classes, {width} x {height} pixels"


def findings_table(frame: Frame, threshold: float) -> str:
    """A line for each finding of at least `threshold`, or for the best ones if none reaches it."""
    sure = [finding for finding in frame.detections if finding.score >= threshold]
    shown = sure or list(frame.detections[:MAX_UNSURE])
    lines = [
        f"  {finding.score:.2f}  {visible(finding.label):<14} "
        + " ".join(f"{edge:6.3f}" for edge in edges(finding.bounding_box))
        for finding in shown
    ]
    if lines:
        lines.insert(
            0, "  score label           x_min  y_min  x_max  y_max   (of the photo's width and height)"
        )
    rest = f"{len(frame.detections) - len(sure)} below"
    count = f"{len(sure)} found" if sure else "nothing found"
    return "\n".join([*lines, f"  {count} of score {threshold:.2f} or more, {rest}"])


def timings(seconds: list[float]) -> str:
    """`seconds` has the first call and those after it."""
    text = f"first call {seconds[0] * 1000:.1f} ms"
    later = sorted(seconds[1:])
    if later:
        high = later[min(len(later) - 1, int(len(later) * 0.95))]
        text += f"; {len(later)} more, one after another: median {median(later) * 1000:.1f} ms"
        text += f", p95 {high * 1000:.1f} ms"
    return text
