"""Measures the CPU of an event's assessment by rules: tracks, visits and crossings, and the score."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from lares.reason.v1.evidence_pb2 import Evidence
from lares.scene.v1 import scene_pb2
from reason_svc.messages import evidence_of
from reason_svc.rules.v1 import scoring as v1
from reason_svc.rules.v2 import scoring as v2
from tests.bench.measure import Row, Samples, milliseconds
from tests.bench.trees import Bench

START = datetime(2026, 11, 27, 21, tzinfo=UTC)
MOST_SECONDS = 0.005
REPEATS = 20
# Frames, and things in each of them. The last is the largest event.
SIZES = {"30 frames of 2 things": (30, 2), "30 frames of 6 things": (30, 6), "2,000 detections": (400, 5)}


async def measure(bench: Bench) -> list[Row]:
    rows = []
    for title, (frames, things) in SIZES.items():
        message = evidence(frames, things)
        by_v2, by_v1 = Samples(), Samples()
        for _ in range(bench.pairs):
            by_v2.now.append(_cpu(message, v2.assess))
            by_v1.now.append(_cpu(message, v1.assess))
        most = MOST_SECONDS if frames == 30 else None
        rows.append(by_v2.row(f"rules/v2, tracks included: {title}, CPU", milliseconds, most))
        rows.append(by_v1.row("  rules/v1 of the same evidence, tracks included", milliseconds))
    return rows


def _cpu(message: Evidence, assess: Callable[[Any], object]) -> float:
    began = time.process_time()
    for _ in range(REPEATS):
        assess(evidence_of(message))
    return (time.process_time() - began) / REPEATS


def evidence(frames: int, things: int) -> Evidence:
    """Things that cross six zones and two lines from left to right, each on its own way."""
    message = Evidence(
        event_id="b5a6f3c2-6a3a-5c43-9c0e-6d2b3b0d7a11",
        camera_id="front",
        time_zone="Europe/Berlin",
        mode="away",
        zones=[_zone(number) for number in range(6)],
    )
    for name, x in (("fence", 0.3), ("gate", 0.7)):
        start, end = scene_pb2.Point(x=x, y=0), scene_pb2.Point(x=x, y=1)
        message.lines.add(id=name, name=name, start=start, end=end)
    for frame in range(frames):
        at = START + timedelta(seconds=90 * frame / frames)
        for thing in range(things):
            found = message.detections.add(
                id=f"{frame}-{thing}", label="person" if thing % 2 else "car", score=0.8, media_id=str(frame)
            )
            found.captured_at.FromDatetime(at)
            box, x, y = found.bounding_box, 0.9 * frame / frames, 0.1 + 0.8 * thing / things
            box.x_min, box.x_max, box.y_min, box.y_max = x, x + 0.08, y - 0.08, y
    message.started_at.CopyFrom(message.detections[0].captured_at)
    message.ended_at.CopyFrom(message.detections[-1].captured_at)
    return message


def _zone(number: int) -> scene_pb2.Zone:
    left, right = number / 6, (number + 1) / 6
    corners = [(left, 0.0), (right, 0.0), (right, 1.0), (left, 1.0)]
    return scene_pb2.Zone(
        id=f"zone-{number}",
        name=f"Zone {number}",
        kind=scene_pb2.ZoneKind.Value(
            ("ZONE_KIND_PUBLIC", "ZONE_KIND_APPROACH", "ZONE_KIND_PRIVATE")[number // 2]
        ),
        polygon=[scene_pb2.Point(x=x, y=y) for x, y in corners],
    )
