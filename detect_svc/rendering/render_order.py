"""What a child is told to render: an input of a job, with the paths of its sources."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from lares.detect.v1.detection_pb2 import Detection
from lares.store.internal.v1.job_service_pb2 import RenderFrame, RenderInput, RenderSource
from lares.store.v1 import rendition_pb2 as rendition
from mesh.boxes import LabelledBox, edges_of
from mesh.media_types import is_clip
from mesh.problems import Invalid

KINDS = {
    rendition.RENDITION_KIND_FRAMES: "FRAMES",
    rendition.RENDITION_KIND_PLAYABLE: "PLAYABLE",
    rendition.RENDITION_KIND_EVENT_CLIP: "EVENT_CLIP",
    rendition.RENDITION_KIND_EVENT_PREVIEW: "EVENT_PREVIEW",
}
MAX_SHOTS = 40
# A frame of a preview is shown until the next one was captured, but for at least and at most so long.
LEAST_MS, MOST_MS = 250, 1000
LAST_MS = 1500


def render_order(
    wanted: RenderInput, sources: Sequence[tuple[RenderSource, str]], max_pixels: int
) -> dict[str, Any]:
    """`sources` are those of the input that there are, with their paths. Raises Invalid UNKNOWN_KIND,
    NOTHING_TO_RENDER."""
    kind = KINDS.get(wanted.kind)
    if kind is None:
        raise Invalid("this version cannot make such a rendition", "UNKNOWN_KIND")
    if kind == "FRAMES":
        told = [
            {"path": path, "frames": sorted({frame.index for frame in source.frames})}
            for source, path in sources[:1]
        ]
    elif kind == "PLAYABLE":
        told = [{"path": path} for _, path in sources[:1]]
    elif kind == "EVENT_CLIP":
        told = [_span(wanted, source, path) for source, path in sources if is_clip(source.media.type)]
    else:
        told = _shots(sources)
    if not told:
        raise Invalid("there is nothing to render", "NOTHING_TO_RENDER")
    return {"kind": kind, "max_pixels": max_pixels, "sources": told}


def _span(wanted: RenderInput, source: RenderSource, path: str) -> dict[str, Any]:
    zero = _captured_ms(source)
    return {
        "path": path,
        "start": (wanted.start.ToMilliseconds() - zero) / 1000,
        "end": (wanted.end.ToMilliseconds() - zero) / 1000,
    }


def _captured_ms(source: RenderSource) -> int:
    """When the first frame of a clip was captured. Its frames know better than the media: they are earlier if
    the clip turned out to be longer than its header says."""
    if source.frames:
        return source.frames[0].captured_at.ToMilliseconds() - source.frames[0].index
    return source.media.captured_at.ToMilliseconds()


def _shots(sources: Sequence[tuple[RenderSource, str]]) -> list[dict[str, Any]]:
    frames = [(place, frame) for place, (source, _) in enumerate(sources) for frame in source.frames]
    shown = [frames[number] for number in _chosen([frame for _, frame in frames])]
    if not shown:
        return []
    times = [frame.captured_at.ToMilliseconds() for _, frame in shown]
    gaps = [min(max(after - before, LEAST_MS), MOST_MS) for before, after in pairwise(times)]
    shots: dict[int, list[Any]] = {}
    for (place, frame), gap in zip(shown, [*gaps, LAST_MS], strict=True):
        shots.setdefault(place, []).append((frame.index, gap, [_box(one) for one in frame.detections]))
    return [
        {"path": path, "is_clip": is_clip(source.media.type), "shots": shots[place]}
        for place, (source, path) in enumerate(sources)
        if place in shots
    ]


def _chosen(frames: Sequence[RenderFrame]) -> list[int]:
    """The numbers of at most MAX_SHOTS frames, evenly spread: with the first, the last and the one with the
    best detection."""
    if len(frames) <= MAX_SHOTS:
        return list(range(len(frames)))
    best = max(range(len(frames)), key=lambda number: _best_score(frames[number]))
    spread = [round(step * (len(frames) - 1) / (MAX_SHOTS - 1)) for step in range(MAX_SHOTS)]
    if best not in spread:
        # It takes the place of the nearest one, but neither of the first nor of the last.
        nearest = min(range(1, MAX_SHOTS - 1), key=lambda step: abs(spread[step] - best))
        spread[nearest] = best
    return sorted(spread)


def _best_score(frame: RenderFrame) -> float:
    return max((detection.score for detection in frame.detections), default=0.0)


def _box(detection: Detection) -> LabelledBox:
    x_min, y_min, x_max, y_max = edges_of(detection)
    return detection.label, detection.score, x_min, y_min, x_max, y_max
