"""Converts between protobuf messages and the domain's types."""

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
from mesh.labels import canonical
from mesh.problems import Invalid
from reason_svc.evidence import Evidence, EvidenceDetection
from reason_svc.plain_text import plain_text
from reason_svc.reasoner import UNKNOWN_MODEL, UNKNOWN_PROMPT, ScoreFactor

MAX_LABEL_LENGTH = 64
MAX_DETAIL_LENGTH = 500


def evidence_of(message: evidence_pb2.Evidence) -> Evidence:
    """Raises Invalid: NO_DETECTIONS, BAD_TIME_ZONE, BAD_TIME, BAD_SCORE, BAD_LABEL, BAD_BOX."""
    if not message.detections:
        raise Invalid("evidence needs at least one detection", "NO_DETECTIONS")
    zone = _time_zone(message.time_zone)
    return Evidence(
        camera_name=message.camera_name or message.camera_id,
        time_zone=zone,
        detections=tuple(_detection(found, zone) for found in message.detections),
        history=tuple(_datetime(past.started_at, zone) for past in message.history),
    )


def factor_message(factor: ScoreFactor) -> assessment_pb2.Factor:
    return assessment_pb2.Factor(
        factor=factor.name, points=factor.points, text=factor.text, detection_ids=factor.detection_ids
    )


def assessment_fact(
    evidence: evidence_pb2.Evidence, assessment: assessment_pb2.Assessment, raw_answer: str
) -> EventAssessed:
    fact = _fact_about(evidence)
    fact.assessment.CopyFrom(assessment)
    fact.raw_answer = raw_answer
    return fact


def failure_fact(lease: JobLease, reason: str, detail: str, at: datetime) -> EventAssessed:
    """The fact that a lease's attempt failed. The same attempt has the same id in every copy of the fact.

    A request for a model or a prompt that does not exist can never succeed, so it is given up.
    """
    given_up = lease.assess.request.request_id if reason in (UNKNOWN_MODEL, UNKNOWN_PROMPT) else ""
    fact = _fact_about(lease.assess.evidence)
    fact.failure.CopyFrom(
        AssessmentFailure(
            id=str(uuid5(NAMESPACE, f"failure/{lease.lease_id}/{lease.attempt}")),
            reason=reason,
            detail=plain_text(detail, MAX_DETAIL_LENGTH),
            failed_at=timestamp(at),
            given_up_request_id=given_up,
        )
    )
    return fact


def timestamp(at: datetime) -> Timestamp:
    """`at` must be aware."""
    message = Timestamp()
    message.FromDatetime(at)
    return message


def _fact_about(evidence: evidence_pb2.Evidence) -> EventAssessed:
    return EventAssessed(
        event_id=evidence.event_id,
        camera_id=evidence.camera_id,
        evidence_revision=evidence.revision,
        evidence_digest=evidence.digest,
    )


def _detection(message: evidence_pb2.EvidenceDetection, zone: ZoneInfo) -> EvidenceDetection:
    label = canonical(plain_text(message.label, MAX_LABEL_LENGTH))
    if not label:
        raise Invalid("a detection has no label", "BAD_LABEL")
    if not 0 <= message.score <= 1:
        raise Invalid(f"a detection's score is {message.score:g}, not between 0 and 1", "BAD_SCORE")
    box = edges_of(message)
    if box and (len(box) != 4 or not all(map(math.isfinite, box))):
        raise Invalid("a detection's box does not consist of four finite numbers", "BAD_BOX")
    if not message.HasField("captured_at"):
        raise Invalid("a detection has no captured_at", "BAD_TIME")
    at = _datetime(message.captured_at, zone)
    return EvidenceDetection(message.id, label, message.score, at, message.media_id)


def _datetime(message: Timestamp, zone: ZoneInfo) -> datetime:
    try:
        at = message.ToDatetime(tzinfo=UTC)
        at.astimezone(zone)  # a local time near the first or the last year may be outside the calendar
    except (ValueError, OverflowError):
        raise Invalid("a time is outside the years 1 to 9999", "BAD_TIME") from None
    return at


def _time_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (KeyError, ValueError, OSError):  # unknown; malformed; the name of a folder
        raise Invalid(
            f"{plain_text(name, MAX_LABEL_LENGTH)!r} is not an IANA time zone", "BAD_TIME_ZONE"
        ) from None
