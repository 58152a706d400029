"""Converts between protobuf messages and the domain's types."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
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
from mesh.scene.daylight import Light, light_at
from mesh.scene.messages import enum_value, ground_of, line_of, zone_of
from mesh.scene.places import GROUND_ID, Place, ZoneKind
from reason_svc.evidence import (
    Behaviour,
    ChangeKind,
    Evidence,
    EvidenceDetection,
    ExpectedVisit,
    Habit,
    HousePerson,
    PastEvent,
    PastStay,
    Relation,
    SceneChange,
)
from reason_svc.evidence_tracks import MAX_LABEL_LENGTH, derived_tracks, given_tracks
from reason_svc.plain_text import plain_text
from reason_svc.reasoner import UNKNOWN_MODEL, UNKNOWN_PROMPT, ScoreFactor

MAX_DETAIL_LENGTH = 500


def evidence_of(message: evidence_pb2.Evidence) -> Evidence:
    """Derives tracks and light that the message does not give.

    Raises Invalid: NO_DETECTIONS, BAD_TIME_ZONE, BAD_TIME, BAD_SCORE, BAD_LABEL, BAD_BOX, BAD_ZONE, BAD_LINE,
    BAD_TRACK, BAD_PERSON.
    """
    if not message.detections and not message.changes:
        raise Invalid("evidence needs at least one detection or change", "NO_DETECTIONS")
    time_zone = _time_zone(message.time_zone)
    detections = tuple(_detection(found, time_zone) for found in message.detections)
    _check_ids((zone.id for zone in message.zones), "zones", "BAD_ZONE")
    _check_ids((line.id for line in message.lines), "lines", "BAD_LINE")
    _check_ids((person.id for person in message.people), "people", "BAD_PERSON")
    people = {person.id: _person(person) for person in message.people}
    zones = tuple(map(zone_of, message.zones))
    lines = tuple(map(line_of, message.lines))
    ground = ground_of(message.ground)
    kinds = {zone.id: zone.kind for zone in zones}
    evidence = Evidence(
        camera_name=message.camera_name or message.camera_id,
        time_zone=time_zone,
        detections=detections,
        history=tuple(_datetime(past.started_at, time_zone) for past in message.history),
        zones=zones,
        lines=lines,
        ground=ground,
        tracks=given_tracks(message, detections, zones, lines, people)
        if message.tracks
        else derived_tracks(message.event_id, detections, zones, lines, ground),
        mode=message.mode,
        light=enum_value(Light, message.light),
        people=tuple(people.values()),
        present=tuple(_known(people, id_, "present_person_ids") for id_ in message.present_person_ids),
        expected=tuple(
            ExpectedVisit(visit.id, visit.name, tuple(map(canonical, visit.labels)), tuple(visit.zone_ids))
            for visit in message.expected
        ),
        habits=tuple(
            Habit(
                canonical(habit.label),
                habit.zone_id,
                behaviour,
                habit.days_seen,
                habit.days,
            )
            for habit in message.habits
            if (behaviour := enum_value(Behaviour, habit.behaviour))
        ),
        site_notes=tuple(message.site_notes),
        changes=tuple(
            SceneChange(
                canonical(change.thing), kind, _change_time(change, time_zone), _place_of(change, kinds)
            )
            for change in message.changes
            if (kind := enum_value(ChangeKind, change.kind))
        ),
        past=tuple(_past_event(past, kinds, time_zone) for past in message.past),
    )
    if not evidence.detections and not evidence.changes:
        raise Invalid("no change of this evidence is of a kind that is known", "NO_DETECTIONS")
    if evidence.light is not None:
        return evidence
    return replace(evidence, light=light_at(evidence.began_at.astimezone(time_zone), time_zone.key))


def _change_time(change: evidence_pb2.Change, time_zone: ZoneInfo) -> datetime:
    if not change.HasField("time"):
        raise Invalid("a change has no time", "BAD_TIME")
    return _datetime(change.time, time_zone)


def _place_of(change: evidence_pb2.Change, kinds: Mapping[str, ZoneKind]) -> Place | None:
    kind = kinds.get(change.zone_id) or enum_value(ZoneKind, change.zone_kind)
    return Place(change.zone_id, kind) if kind else None


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
    return EvidenceDetection(
        message.id,
        label,
        message.score,
        at,
        message.media_id,
        (box[0], box[1], box[2], box[3]) if box else None,
        message.stands,
    )


def _check_ids(ids: Iterable[str], what: str, reason: str) -> None:
    known: set[str] = set()
    for one in ids:
        if one in known or one == GROUND_ID:
            raise Invalid(f"{one!r} cannot be the id of one of the {what}: it means something else", reason)
        known.add(one)


def _past_event(
    message: evidence_pb2.PastEvent, kinds: Mapping[str, ZoneKind], time_zone: ZoneInfo
) -> PastEvent:
    started_at = _datetime(message.started_at, time_zone)
    return PastEvent(
        started_at=started_at,
        ended_at=_datetime(message.ended_at, time_zone) if message.HasField("ended_at") else started_at,
        labels=tuple(map(canonical, message.labels)),
        stays=tuple(
            PastStay(Place(stay.zone_id, kind), canonical(stay.label), stay.seconds)
            for stay in message.stays
            if (kind := kinds.get(stay.zone_id) or enum_value(ZoneKind, stay.kind))
        ),
        inward_crossings=message.inward_crossings,
        stationary_matches=message.stationary_matches,
    )


def _person(message: evidence_pb2.Person) -> HousePerson:
    return HousePerson(message.id, message.name, enum_value(Relation, message.relation))


def _known(people: Mapping[str, HousePerson], person: str, where: str) -> HousePerson:
    if person not in people:
        raise Invalid(f"{where} names a person who is not among the people", "BAD_PERSON")
    return people[person]


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
