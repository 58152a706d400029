"""Builds evidence for tests of reasoners."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from lares.reason.v1 import evidence_pb2
from mesh.boxes import bounding_box
from mesh.identity import detection_id, event_id, media_id
from reason_svc.evidence import Evidence, EvidenceDetection
from reason_svc.messages import timestamp

DAY = datetime(2026, 3, 14, 13, 0, tzinfo=UTC)
NIGHT = datetime(2026, 3, 14, 23, 30, tzinfo=UTC)


def detections(
    *photos: Sequence[str], at: datetime = DAY, every: float = 0, score: float = 0.7
) -> list[EvidenceDetection]:
    """Returns the detections of consecutive photos, `every` seconds apart. A photo is a list of labels."""
    return [
        EvidenceDetection(
            id=detection_id(f"photo-{index}", 0, rank, "detector"),
            label=label,
            score=score,
            captured_at=at + timedelta(seconds=index * every),
            media_id=media_id("front-door", f"photo-{index}"),
        )
        for index, labels in enumerate(photos)
        for rank, label in enumerate(labels)
    ]


def evidence(
    found: Sequence[EvidenceDetection], past: int = 0, time_zone: str = "UTC", camera_name: str = "Front Door"
) -> Evidence:
    """Returns evidence with the detections `found`. `past` events happened in the hour before."""
    began = min(detection.captured_at for detection in found)
    history = tuple(began - timedelta(minutes=5 * (index + 1)) for index in range(past))
    return Evidence(camera_name, ZoneInfo(time_zone), tuple(found), history)


def evidence_message(name: str = "one", label: str = "person", at: datetime = DAY) -> evidence_pb2.Evidence:
    """Returns the evidence of an event with one detection, as the store sends it."""
    (found,) = detections([label], at=at)
    return evidence_pb2.Evidence(
        event_id=event_id(name, 0),
        revision=3,
        digest=f"digest of {name}",
        camera_id="front-door",
        camera_name="Front Door",
        time_zone="UTC",
        started_at=timestamp(at),
        ended_at=timestamp(at),
        detections=[
            evidence_pb2.EvidenceDetection(
                id=found.id,
                label=label,
                score=found.score,
                bounding_box=bounding_box([0.1, 0.1, 0.5, 0.9]),
                captured_at=timestamp(at),
                media_id=found.media_id,
            )
        ],
    )
