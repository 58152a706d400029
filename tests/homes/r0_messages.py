"""Records as the services of 09640b9 write them; for that checkout alone."""

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import asyncpg
import scripted_model
from google.protobuf.timestamp_pb2 import Timestamp
from r0_home import NOON

from lares.detect.v1.detection_pb2 import Detection
from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.events_pb2 import MediaRejected
from lares.ingest.v1.media_pb2 import FileFingerprint, Media
from lares.reason.v1.assessment_pb2 import Assessment
from lares.reason.v1.events_pb2 import EventAssessed, JudgementFailure
from mesh.bus import Bus
from mesh.identity import assessment_id, detection_id, rejection_id
from mesh.topics import (
    Topic,
)
from tests.support.scripted_llm import MODEL

NAMES = UUID("8f0c9a52-6f0e-4c41-9d5c-0c7a52a4d1b7")

DETECTOR = "efficientdet-lite0@0123456789ab"


def detection_fact(media: Media, *found: tuple[str, float], urgent: bool = False) -> MediaDetected:
    message = MediaDetected(media=media, detector=DETECTOR, detected_at=media.ingested_at, urgent=urgent)
    for rank, (label, score) in enumerate(found):
        id = detection_id(media.id, 0, rank, DETECTOR)
        message.detections.append(Detection(id=id, label=label, score=score, box=[0.25, 0.25, 0.5, 0.75]))
    return message


def rejection_fact(camera: str, name: str) -> MediaRejected:
    file = FileFingerprint(path=f"{camera}/{name}", size_bytes=7, mtime_ns=8, ctime_ns=9, inode=10)
    return MediaRejected(
        rejection_id=rejection_id(camera, file.path, 7, 8), camera_id=camera, file=file,
        reason="REJECTION_REASON_TRUNCATED", detail="The file ends in the middle.", rejected_at=stamp(NOON),
    )  # fmt: skip


def assessment_fact(event: asyncpg.Record, like: Assessment, request: str = "") -> EventAssessed:
    """What reason_svc publishes of the evidence of now; the model said so."""
    digest, revision, id = event["evidence_digest"], event["evidence_revision"], str(event["id"])
    assessment = Assessment()
    assessment.CopyFrom(like)
    assessment.id = assessment_id(id, digest, MODEL, like.prompt_hash, request)
    assessment.event_id, assessment.evidence_digest, assessment.evidence_revision = id, digest, revision
    assessment.request_id, assessment.score, assessment.severity = request, 71, "SEVERITY_HIGH"
    assessment.raw_answer = scripted_model.answer(f"unread {event['camera_id']}")
    for factor in assessment.factors:
        del factor.detection_ids[:]
    return EventAssessed(
        event_id=id, camera_id=event["camera_id"], evidence_revision=revision, evidence_digest=digest,
        assessment=assessment,
    )  # fmt: skip


def failure_fact(event: asyncpg.Record, reason: str, given_up: str = "") -> EventAssessed:
    failure = JudgementFailure(
        id=request_id(f"failure of {event['camera_id']}"), reason=reason, detail="It said no such thing.",
        failed_at=stamp(NOON), given_up_request_id=given_up,
    )  # fmt: skip
    return EventAssessed(
        event_id=str(event["id"]), camera_id=event["camera_id"], evidence_revision=event["evidence_revision"],
        evidence_digest=event["evidence_digest"], failure=failure,
    )  # fmt: skip


async def first(bus: Bus, topic: Topic[Any]) -> Any:
    """The oldest record of one of the partitions: what is delivered twice counts once."""
    async with bus.tail(topic, start="beginning") as tail:
        return (await asyncio.wait_for(anext(tail), 60)).message


def request_id(name: str) -> str:
    return str(uuid5(NAMES, name))


def stamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made
