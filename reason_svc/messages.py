"""Between the contracts and the domain."""

import math
from datetime import UTC, datetime
from uuid import uuid5
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp

from lares.reason.v1 import assessment_pb2, evidence_pb2
from lares.reason.v1.events_pb2 import AssessmentFailure, EventAssessed
from lares.store.internal.v1.job_service_pb2 import JobLease
from mesh.boxes import edges_of
from mesh.identity import NAMESPACE
from mesh.problems import Invalid
from reason_svc.evidence import Evidence, Sighting, plain_text
from reason_svc.reasoner import UNKNOWN_MODEL, UNKNOWN_PROMPT
from reason_svc.verdict import Factor

MOST_LABEL = 64
MOST_DETAIL = 500


def evidence_of(message: evidence_pb2.Evidence) -> Evidence:
    """Raises Invalid: NO_DETECTIONS, BAD_TIME_ZONE, BAD_TIME, BAD_SCORE, BAD_LABEL, BAD_BOX."""
    if not message.detections:
        raise Invalid("evidence needs at least one detection", "NO_DETECTIONS")
    zone = _zone(message.time_zone)
    return Evidence(
        place=message.camera_name or message.camera_id,
        zone=zone,
        sightings=tuple(_sighting(found, zone) for found in message.detections),
        history=tuple(_time(past.started_at, zone) for past in message.history),
    )


def factor_message(factor: Factor) -> assessment_pb2.Factor:
    return assessment_pb2.Factor(
        factor=factor.name, points=factor.points, text=factor.text, detection_ids=factor.detection_ids
    )


def assessed(
    evidence: evidence_pb2.Evidence, assessment: assessment_pb2.Assessment, raw_answer: str
) -> EventAssessed:
    fact = _about(evidence)
    fact.assessment.CopyFrom(assessment)
    fact.raw_answer = raw_answer
    return fact


def failed(lease: JobLease, reason: str, detail: str, at: datetime) -> EventAssessed:
    """The failed attempt of a lease; the same attempt has the same id however often it is told. A wish that
    can never be met is given up."""
    given_up = lease.assess.request.request_id if reason in (UNKNOWN_MODEL, UNKNOWN_PROMPT) else ""
    fact = _about(lease.assess.evidence)
    fact.failure.CopyFrom(
        AssessmentFailure(
            id=str(uuid5(NAMESPACE, f"failure/{lease.lease_id}/{lease.attempt}")),
            reason=reason,
            detail=plain_text(detail, MOST_DETAIL),
            failed_at=stamp(at),
            given_up_request_id=given_up,
        )
    )
    return fact


def stamp(at: datetime) -> Timestamp:
    """`at` is aware."""
    message = Timestamp()
    message.FromDatetime(at)
    return message


def _about(evidence: evidence_pb2.Evidence) -> EventAssessed:
    return EventAssessed(
        event_id=evidence.event_id,
        camera_id=evidence.camera_id,
        evidence_revision=evidence.revision,
        evidence_digest=evidence.digest,
    )


def _sighting(message: evidence_pb2.EvidenceDetection, zone: ZoneInfo) -> Sighting:
    label = plain_text(message.label, MOST_LABEL)
    if not label:
        raise Invalid("a detection has no label", "BAD_LABEL")
    if not 0 <= message.score <= 1:
        raise Invalid(f"a detection's score is {message.score:g}, not between 0 and 1", "BAD_SCORE")
    box = edges_of(message)
    if box and (len(box) != 4 or not all(map(math.isfinite, box))):
        raise Invalid("a detection's box is not made of four numbers", "BAD_BOX")
    at = _time(message.captured_at, zone) if message.HasField("captured_at") else None
    if at is None:
        raise Invalid("a detection has no captured_at", "BAD_TIME")
    return Sighting(message.id, label, message.score, at, message.media_id)


def _time(stamp: Timestamp, zone: ZoneInfo) -> datetime:
    try:
        at = stamp.ToDatetime(tzinfo=UTC)
        at.astimezone(zone)  # near the first and the last year it may leave the calendar
    except (ValueError, OverflowError):
        raise Invalid("a time lies beyond the years 1 to 9999", "BAD_TIME") from None
    return at


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (KeyError, ValueError, OSError):  # not there; no such form of name; the name of a folder
        raise Invalid(f"{plain_text(name, MOST_LABEL)!r} is no IANA time zone", "BAD_TIME_ZONE") from None
