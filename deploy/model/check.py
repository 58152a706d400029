"""`lares model check`: one photo through a detector, as detect_svc would send it, and how long that takes."""

import asyncio
import time
from pathlib import Path
from statistics import median

from deploy.samples import ANNOTATED, samples
from detect_svc.detectors.detector import Detector, FrameFindings, detector_id
from detect_svc.detectors.factory import open_detector
from mesh.config import Config
from mesh.problems import Invalid
from mesh.telemetry.redaction import redacted_url

# A walker in a park, others behind him.
SAMPLE = "000000193245.jpg"
# So many of the rest are shown where nothing reaches the threshold.
FAINT = 5


async def check(config: Config, photo: Path | None, calls: int) -> None:
    """Prints what the detector of LARES_DETECTOR_URL sees, and timings. `photo` None: a sample, fetched once.

    Raises what opening or asking a detector raises, and Invalid for a photo that is not there.
    """
    content = await asyncio.to_thread(_content, config, photo)
    async with open_detector(config) as detector:
        print(f"{redacted_url(config.detector_url)}\n{described(detector)}", flush=True)
        frame, seconds = await ask(detector, content, calls)
        print(f"\n{photo.name if photo else SAMPLE}, {frame.width} x {frame.height} pixels")
        print(findings(frame, detector.threshold))
        print(f"\n{timings(seconds)}")


def _content(config: Config, photo: Path | None) -> bytes:
    path = photo or samples(config.cache, ANNOTATED)[SAMPLE]
    try:
        return path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror or error}", "NO_PHOTO") from None


async def ask(detector: Detector, content: bytes, calls: int) -> tuple[FrameFindings, list[float]]:
    """The last answer, and the seconds of each call, one after another; the first may include warming up."""
    seconds = []
    for _ in range(calls):
        begun = time.perf_counter()
        frame = await detector.detect(content)
        seconds.append(time.perf_counter() - begun)
    return frame, seconds


def described(detector: Detector) -> str:
    width, height = detector.input_size
    return f"{detector_id(detector)}: {len(detector.labels)} classes, {width} x {height} pixels"


def findings(frame: FrameFindings, threshold: float) -> str:
    """A line for each of at least `threshold`; where there are none, the best below it, and says so."""
    sure = [found for found in frame.findings if found.score >= threshold]
    shown = sure or list(frame.findings[:FAINT])
    lines = [
        f"  {found.score:.2f}  {found.label:<14} " + " ".join(f"{edge:6.3f}" for edge in found.box)
        for found in shown
    ]
    if lines:
        lines.insert(
            0, "  score label           x_min  y_min  x_max  y_max   (of the photo's width and height)"
        )
    rest = f"{len(frame.findings) - len(sure)} below"
    count = f"{len(sure)} found" if sure else "nothing found"
    return "\n".join([*lines, f"  {count} of score {threshold:.2f} or more, {rest}"])


def timings(seconds: list[float]) -> str:
    """`seconds` of the first call and of those after it."""
    text = f"first call {seconds[0] * 1000:.1f} ms"
    later = sorted(seconds[1:])
    if later:
        high = later[min(len(later) - 1, int(len(later) * 0.95))]
        text += f"; {len(later)} more, one after another: median {median(later) * 1000:.1f} ms"
        text += f", p95 {high * 1000:.1f} ms"
    return text
