"""What a child is told to render."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detect_svc.rendering.render_order import LAST_MS, MAX_SHOTS, _chosen, render_order
from lares.detect.v1.detection_pb2 import BoundingBox, Detection
from lares.ingest.v1.media_pb2 import MEDIA_TYPE_JPEG, MEDIA_TYPE_MP4, Media, MediaType
from lares.store.internal.v1.job_service_pb2 import RenderFrame, RenderInput, RenderSource
from lares.store.v1 import rendition_pb2 as rendition
from mesh.problems import Invalid

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def frame(index: int, at: float = 0, score: float | None = None) -> RenderFrame:
    made = RenderFrame(index=index)
    made.captured_at.FromDatetime(NOON + timedelta(seconds=at))
    if score is not None:
        box = BoundingBox(x_min=0.25, y_min=0.5, x_max=0.75, y_max=1)
        made.detections.append(Detection(label="person", score=score, bounding_box=box))
    return made


def source(kind: MediaType.ValueType, at: float, *frames: RenderFrame) -> RenderSource:
    made = RenderSource(media=Media(id="m", type=kind), frames=frames)
    made.media.captured_at.FromDatetime(NOON + timedelta(seconds=at))
    return made


def wanted(kind: rendition.RenditionKind.ValueType, start: float = 0, end: float = 0) -> RenderInput:
    made = RenderInput(kind=kind)
    made.start.FromDatetime(NOON + timedelta(seconds=start))
    made.end.FromDatetime(NOON + timedelta(seconds=end))
    return made


def test_an_event_clip_is_measured_from_the_first_frame_of_each_clip() -> None:
    clips = [
        (source(MEDIA_TYPE_JPEG, 0, frame(0)), "photo"),
        (source(MEDIA_TYPE_MP4, -10), "says"),
        # Its frames are 2 s earlier than the media says: the clip was longer than its header.
        (source(MEDIA_TYPE_MP4, 4, frame(1500, 3.5), frame(2000, 4)), "moved"),
    ]
    order = render_order(wanted(rendition.RENDITION_KIND_EVENT_CLIP, 1, 9), clips, 7)
    assert order == {
        "kind": "EVENT_CLIP",
        "max_pixels": 7,
        "sources": [
            {"path": "says", "start": 11.0, "end": 19.0},
            {"path": "moved", "start": -1.0, "end": 7.0},
        ],
    }


def test_frames_are_wanted_once_and_in_order() -> None:
    clip = source(MEDIA_TYPE_MP4, 0, frame(2000), frame(0), frame(2000))
    order = render_order(wanted(rendition.RENDITION_KIND_FRAMES), [(clip, "a")], 7)
    assert order["sources"] == [{"path": "a", "frames": [0, 2000]}]


def test_a_preview_shows_frames_for_as_long_as_they_lasted_within_bounds() -> None:
    sources = [
        (source(MEDIA_TYPE_JPEG, 0, frame(0, 0, 0.5)), "photo"),
        (source(MEDIA_TYPE_MP4, 0, frame(0, 0.1), frame(500, 0.6), frame(60_000, 60)), "clip"),
    ]
    order = render_order(wanted(rendition.RENDITION_KIND_EVENT_PREVIEW), sources, 7)
    assert order["sources"] == [
        {"path": "photo", "is_clip": False, "shots": [(0, 250, [("person", 0.5, 0.25, 0.5, 0.75, 1.0)])]},
        {"path": "clip", "is_clip": True, "shots": [(0, 500, []), (500, 1000, []), (60_000, LAST_MS, [])]},
    ]


@given(st.integers(1, 600), st.data())
def test_a_preview_has_the_first_the_best_and_the_last_frame(count: int, data: st.DataObject) -> None:
    best = data.draw(st.integers(0, count - 1))
    chosen = _chosen([frame(n, n, 0.9 if n == best else 0.4) for n in range(count)])
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, MAX_SHOTS)
    assert {0, best, count - 1} <= set(chosen)
    gaps = [b - a for a, b in pairwise(chosen)]
    assert max(gaps, default=1) <= 2 * count / MAX_SHOTS + 2


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (rendition.RENDITION_KIND_UNSPECIFIED, "UNKNOWN_KIND"),
        (rendition.RENDITION_KIND_EVENT_CLIP, "NOTHING_TO_RENDER"),
        (rendition.RENDITION_KIND_EVENT_PREVIEW, "NOTHING_TO_RENDER"),
        (rendition.RENDITION_KIND_PLAYABLE, "NOTHING_TO_RENDER"),
    ],
)
def test_what_cannot_be_ordered(kind: rendition.RenditionKind.ValueType, reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        render_order(wanted(kind), [], 7)
    assert refused.value.reason == reason
