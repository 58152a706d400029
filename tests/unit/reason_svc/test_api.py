"""ReasonService as a client calls it, by pytest-grpc."""

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from buf.validate import validate_pb2
from lares.detect.v1.detection_pb2 import BoundingBox
from lares.reason.v1.assessment_pb2 import SEVERITY_MEDIUM
from lares.reason.v1.evidence_pb2 import (
    CHANGE_KIND_WENT,
    RELATION_UNWELCOME,
    Change,
    Evidence,
    EvidenceDetection,
    Habit,
    PastEvent,
)
from lares.reason.v1.reason_service_pb2 import (
    REASONER_STATE_READY,
    AssessEventRequest,
    GetReasonStatusRequest,
)
from lares.reason.v1.reason_service_pb2_grpc import (
    ReasonServiceStub,
    add_ReasonServiceServicer_to_server,
)
from lares.scene.v1.scene_pb2 import DIRECTION_INWARDS, ZONE_KIND_PRIVATE, Point, Zone
from mesh.problems import Invalid, Problem, Unauthenticated
from mesh.rpc import problem_of
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Caller, Door
from reason_svc.api import MAX_HISTORY, ReasonServicer
from reason_svc.assessor import Assessor
from reason_svc.messages import timestamp
from reason_svc.rules.reasoner import RulesReasoner
from reason_svc.severity import SeverityThresholds
from reason_svc.worker import WorkCounts
from tests.support.evidence import NIGHT, evidence_message

MAX_DETECTIONS = 20
ASSESSED_AT = datetime(2026, 11, 21, tzinfo=UTC)
KEY = (("x-api-key", "good"),)


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Any:
    return add_ReasonServiceServicer_to_server


@pytest.fixture(scope="module")
def grpc_servicer() -> ReasonServicer:
    assessor = Assessor(RulesReasoner(), SeverityThresholds(), lambda: ASSESSED_AT)
    return ReasonServicer(assessor, MAX_DETECTIONS, lambda: WorkCounts(assessing=1, assessed=20, failed=3))


@pytest.fixture(scope="module")
def grpc_stub_cls() -> Any:
    return ReasonServiceStub


@pytest.fixture(scope="module")
def grpc_interceptors() -> list[grpc.aio.ServerInterceptor]:
    async def verify(secret: str) -> Caller:
        if secret != "good":
            raise Unauthenticated("this key is not known", "BAD_API_KEY")
        return Caller.of_key("1", "Ann")

    return [CallInterceptor(Door.CLIENTS, verify)]


def test_an_assessment_of_evidence(grpc_stub: Any) -> None:
    evidence = evidence_message(at=NIGHT)
    answer = grpc_stub.AssessEvent(AssessEventRequest(evidence=evidence), metadata=KEY, timeout=90)
    assert answer.raw_answer == ""
    assessment = answer.assessment
    assert assessment.event_id == evidence.event_id
    assert (assessment.evidence_revision, assessment.evidence_digest) == (3, evidence.digest)
    assert (assessment.score, assessment.severity) == (43, SEVERITY_MEDIUM)
    assert sum(factor.points for factor in assessment.factors) == 43
    assert assessment.summary == "One person in the dark at Front Door."
    assert (assessment.reasoner, assessment.model, assessment.prompt_hash) == ("rules/v2", "", "")
    assert assessment.assessed_at == timestamp(ASSESSED_AT)


@pytest.mark.parametrize(("name", "label"), [("Motorbike", "motorcycle"), (" PERSON ", "person")])
def test_a_label_may_have_any_spelling(grpc_stub: Any, name: str, label: str) -> None:
    results = [
        grpc_stub.AssessEvent(
            AssessEventRequest(evidence=evidence_message(label=spelling)), metadata=KEY, timeout=90
        )
        for spelling in (name, label)
    ]
    assert results[0].assessment.factors == results[1].assessment.factors
    assert results[0].assessment.summary == results[1].assessment.summary


def test_the_same_evidence_has_the_same_assessment(grpc_stub: Any) -> None:
    def assessed(evidence: Evidence) -> Any:
        answer = grpc_stub.AssessEvent(
            AssessEventRequest(evidence=evidence), metadata=KEY, timeout=90
        ).assessment
        answer.ClearField("duration")
        return answer

    first, again = assessed(evidence_message()), assessed(evidence_message())
    assert first == again
    other = evidence_message()
    other.digest = "another"
    assert assessed(other).id != first.id


def test_the_defaults_of_the_camera_name_and_the_time_zone(grpc_stub: Any) -> None:
    evidence = evidence_message(at=NIGHT)
    evidence.camera_name = evidence.time_zone = ""
    answer = grpc_stub.AssessEvent(AssessEventRequest(evidence=evidence), metadata=KEY, timeout=90)
    assert answer.assessment.summary == "One person in the dark at front-door."


@pytest.mark.parametrize("form", ["today's", "an earlier client's", "none"])
def test_a_box_may_have_either_form(grpc_stub: Any, form: str) -> None:
    evidence = evidence_message(at=NIGHT)
    (found,) = evidence.detections
    assert found.HasField("bounding_box")
    if form != "today's":
        found.ClearField("bounding_box")
    if form == "an earlier client's":
        found.box.extend([0.1, 0.1, 0.5, 0.9])
    answer = grpc_stub.AssessEvent(AssessEventRequest(evidence=evidence), metadata=KEY, timeout=90)
    assert answer.assessment.score == 43


def test_an_event_in_which_nothing_is_seen_is_assessed_by_its_change(grpc_stub: Any) -> None:
    evidence = evidence_message(at=NIGHT)
    del evidence.detections[:]
    change = evidence.changes.add(thing="car", kind=CHANGE_KIND_WENT, zone_kind=ZONE_KIND_PRIVATE)
    change.time.CopyFrom(evidence.started_at)
    answer = grpc_stub.AssessEvent(AssessEventRequest(evidence=evidence), metadata=KEY, timeout=90)
    assert [factor.factor for factor in answer.assessment.factors] == ["class", "went", "mode"]


NO_LABEL = EvidenceDetection(id="a", captured_at=Timestamp(seconds=1))
NO_TIME = EvidenceDetection(id="a", label="cat")
FIRST_YEAR = EvidenceDetection(id="a", label="cat", captured_at=Timestamp(seconds=-62_135_596_800))


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (None, "BAD_REQUEST"),
        (Evidence(), "NO_DETECTIONS"),
        (Evidence(changes=[Change(thing="car", time=Timestamp())]), "NO_DETECTIONS"),
        (Evidence(detections=[NO_LABEL]), "BAD_LABEL"),
        (Evidence(detections=[NO_TIME]), "BAD_TIME"),
        (Evidence(detections=[FIRST_YEAR], time_zone="America/New_York"), "BAD_TIME"),
        (Evidence(detections=[NO_TIME], time_zone="Mars/Olympus"), "BAD_TIME_ZONE"),
        (Evidence(detections=[NO_TIME], time_zone="../../etc/passwd"), "BAD_TIME_ZONE"),
        (Evidence(detections=[NO_TIME], time_zone="Europe"), "BAD_TIME_ZONE"),
        (Evidence(detections=[EvidenceDetection(label="cat", score=1.5)]), "BAD_SCORE"),
        (Evidence(detections=[EvidenceDetection(label="cat", score=float("nan"))]), "BAD_SCORE"),
        (Evidence(detections=[EvidenceDetection(label="cat", box=[0.1, 0.2, 0.3])]), "BAD_BOX"),
        (Evidence(detections=[EvidenceDetection(label="cat", box=[0.1] * 5)]), "BAD_BOX"),
        (Evidence(detections=[EvidenceDetection(label="cat", box=[0.1, 0.2, 0.3, float("nan")])]), "BAD_BOX"),
        (
            Evidence(
                detections=[EvidenceDetection(label="cat", bounding_box=BoundingBox(y_max=float("inf")))]
            ),
            "BAD_BOX",
        ),
        (Evidence(detections=[NO_TIME] * (MAX_DETECTIONS + 1)), "TOO_MUCH_EVIDENCE"),
        (Evidence(detections=[NO_TIME], history=[PastEvent()] * (MAX_HISTORY + 1)), "TOO_MUCH_EVIDENCE"),
    ],
)
def test_malformed_evidence_is_refused(grpc_stub: Any, evidence: Evidence | None, reason: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        grpc_stub.AssessEvent(AssessEventRequest(evidence=evidence), metadata=KEY, timeout=90)
    problem = problem_of(cast(Any, refused.value))
    assert (type(problem), problem.reason) == (Invalid, reason)


def given(*changes: Callable[[Evidence], object]) -> Evidence:
    """Evidence with two people, each in a track of two frames, on a lawn with a fence."""
    evidence = evidence_message()
    first = evidence.detections[0]
    start, end = (
        Timestamp(seconds=first.captured_at.seconds),
        Timestamp(seconds=first.captured_at.seconds + 9),
    )
    for number, at in ((1, start), (2, end), (3, end)):
        detection = evidence.detections.add()
        detection.CopyFrom(first)
        detection.id, detection.media_id = f"detection-{number}", f"photo-{at.seconds}"
        detection.captured_at.CopyFrom(at)
    first.media_id = f"photo-{start.seconds}"
    lawn = evidence.zones.add(id="lawn", kind=ZONE_KIND_PRIVATE)
    lawn.polygon.extend(Point(x=x, y=y) for x, y in ((0, 0), (1, 0), (1, 1)))
    evidence.lines.add(id="fence", start=Point(x=0, y=0.5), end=Point(x=1, y=0.5))
    evidence.people.add(id="anna", name="Anna")
    evidence.tracks.add(id="one", label="person", detection_indexes=[0, 2])
    evidence.tracks.add(id="two", label="person", detection_indexes=[1, 3])
    evidence.tracks[0].visits.add(zone_id="lawn", start_time=start, end_time=end)
    evidence.tracks[0].crossings.add(line_id="fence", direction=DIRECTION_INWARDS, time=end)
    for change in changes:
        change(evidence)
    return evidence


def refusal(grpc_stub: Any, evidence: Evidence) -> tuple[type[Problem], str] | None:
    try:
        grpc_stub.AssessEvent(AssessEventRequest(evidence=evidence), metadata=KEY, timeout=90)
    except grpc.RpcError as refused:
        problem = problem_of(cast(Any, refused))
        return type(problem), problem.reason
    return None


@pytest.mark.parametrize("spelling", ["person", " PERSON "])
def test_given_tracks_are_taken_as_they_are(grpc_stub: Any, spelling: str) -> None:
    evidence = given(lambda one: setattr(one.tracks[0], "label", spelling))
    answer = grpc_stub.AssessEvent(AssessEventRequest(evidence=evidence), metadata=KEY, timeout=90)
    assert "inwards" in {factor.factor for factor in answer.assessment.factors}


def seconds(time: Timestamp, by: int) -> None:
    time.seconds += by


BAD_TRACKS: dict[str, Callable[[Evidence], object]] = {
    "no detections": lambda one: one.tracks[0].ClearField("detection_indexes"),
    "an index that does not exist": lambda one: one.tracks[0].detection_indexes.append(4),
    "a negative index": lambda one: one.tracks[0].detection_indexes.append(-1),
    "an index twice": lambda one: one.tracks[0].detection_indexes.append(2),
    "a detection in two tracks": lambda one: one.tracks.add(id="x", label="person", detection_indexes=[0]),
    "a detection in no track": lambda one: one.tracks.pop(),
    "two detections of one frame": lambda one: (
        one.tracks.pop(), one.tracks[0].detection_indexes.__setitem__(slice(None), [0, 1, 2, 3])
    ),
    "not in order": lambda one: one.tracks[0].detection_indexes.reverse(),
    "another label": lambda one: setattr(one.tracks[0], "label", "cat"),
    "no label": lambda one: setattr(one.tracks[0], "label", ""),
    "a label of spaces": lambda one: setattr(one.tracks[0], "label", " \x00 "),
    "a person that is stationary": lambda one: setattr(one.tracks[0], "stationary", True),
    "the same id": lambda one: setattr(one.tracks[1], "id", "one"),
    "a zone that does not exist": lambda one: setattr(one.tracks[0].visits[0], "zone_id", "moon"),
    "the ground without a kind": lambda one: setattr(one.tracks[0].visits[0], "zone_id", "ground"),
    "a visit that ends before it starts": lambda one: seconds(one.tracks[0].visits[0].end_time, -10),
    "a visit that starts too early": lambda one: seconds(one.tracks[0].visits[0].start_time, -1),
    "a visit that ends too late": lambda one: seconds(one.tracks[0].visits[0].end_time, 1),
    "a visit of thousands of years": lambda one: seconds(one.tracks[0].visits[0].start_time, -60_000_000_000),
    "a visit twice": lambda one: one.tracks[0].visits.append(one.tracks[0].visits[0]),
    "a visit outside the calendar": lambda one: seconds(one.tracks[0].visits[0].end_time, 10**17),
    "a visit with many nanoseconds": lambda one: setattr(
        one.tracks[0].visits[0].end_time, "nanos", 2_000_000_000
    ),
    "a visit without a time": lambda one: one.tracks[0].visits[0].ClearField("end_time"),
    "a line that does not exist": lambda one: setattr(one.tracks[0].crossings[0], "line_id", "moon"),
    "no direction": lambda one: one.tracks[0].crossings[0].ClearField("direction"),
    "a direction of tomorrow": lambda one: setattr(one.tracks[0].crossings[0], "direction", 9),
    "a crossing too late": lambda one: seconds(one.tracks[0].crossings[0].time, 1),
    "a crossing too early": lambda one: seconds(one.tracks[0].crossings[0].time, -10),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_TRACKS)
def test_a_track_that_its_detections_do_not_show_is_refused(grpc_stub: Any, case: str) -> None:
    assert refusal(grpc_stub, given()) is None
    assert refusal(grpc_stub, given(BAD_TRACKS[case])) in ((Invalid, "BAD_TRACK"), (Invalid, "BAD_REQUEST"))


def corner(value: float) -> Callable[[Evidence], object]:
    return lambda one: setattr(one.zones[0].polygon[0], "x", value)


def stay(value: float) -> Callable[[Evidence], object]:
    return lambda one: one.past.add().stays.add(zone_id="lawn", label="person", seconds=value)


LONG = "x" * 10_000
BAD_EVIDENCE: dict[str, Callable[[Evidence], object]] = {
    "a person who is not known": lambda one: setattr(one.tracks[0].identity, "person_id", "bob"),
    "somebody present who is not known": lambda one: one.present_person_ids.append("bob"),
    "a person twice": lambda one: one.people.add(id="anna", relation=RELATION_UNWELCOME),
    "a zone twice": lambda one: one.zones.append(one.zones[0]),
    "a line twice": lambda one: one.lines.append(one.lines[0]),
    "a zone with the ground's id": lambda one: setattr(one.zones[0], "id", "ground"),
    "a corner that is no number": corner(math.nan),
    "a corner at infinity": corner(math.inf),
    "a corner outside the picture": corner(1.5),
    "two corners": lambda one: one.zones[0].polygon.pop(),
    "a line that is a point": lambda one: one.lines[0].end.CopyFrom(one.lines[0].start),
    "a stay that is no number": stay(math.nan),
    "a stay without an end": stay(math.inf),
    "a stay shorter than nothing": stay(-1),
    "a change without a time": lambda one: one.changes.add(thing="car", kind=CHANGE_KIND_WENT),
    "a light of tomorrow": lambda one: setattr(one, "light", 9),
    "a ground of tomorrow": lambda one: setattr(one, "ground", 9),
    "a long event": lambda one: setattr(one, "event_id", LONG),
    "a long digest": lambda one: setattr(one, "digest", LONG),
    "a long camera": lambda one: setattr(one, "camera_id", LONG),
    "a long camera name": lambda one: setattr(one, "camera_name", LONG),
    "a long time zone": lambda one: setattr(one, "time_zone", LONG),
    "a long mode": lambda one: setattr(one, "mode", LONG),
    "a long label": lambda one: setattr(one.detections[0], "label", LONG),
    "a long id of a detection": lambda one: setattr(one.detections[0], "id", LONG),
    "a long id of a media": lambda one: setattr(one.detections[0], "media_id", LONG),
    "a long note": lambda one: one.site_notes.append(LONG),
    "many notes": lambda one: one.site_notes.extend(["note"] * 17),
    "many zones": lambda one: one.zones.extend(Zone(id=f"zone-{n}") for n in range(40)),
    "many tracks": lambda one: one.tracks.extend([one.tracks[0]] * 2001),
    "many habits": lambda one: one.habits.extend([Habit(label="person")] * 65),
    "many past events": lambda one: one.past.extend([PastEvent()] * 101),
}


@pytest.mark.parametrize("case", BAD_EVIDENCE)
def test_evidence_that_cannot_be_is_refused(grpc_stub: Any, case: str) -> None:
    kind, reason = refusal(grpc_stub, given(BAD_EVIDENCE[case])) or (None, "")
    assert kind is Invalid
    assert reason in ("BAD_REQUEST", "BAD_PERSON", "BAD_ZONE", "BAD_LINE", "BAD_TIME")


def strings_and_lists(message: Any, path: str = "") -> Iterator[tuple[str, FieldDescriptor]]:
    for field in message.fields:
        name = f"{path}{field.name}"
        if field.type == FieldDescriptor.TYPE_STRING or field.is_repeated:
            yield name, field
        if field.message_type and field.message_type.full_name.startswith("lares."):
            yield from strings_and_lists(field.message_type, f"{name}.")


def test_every_string_and_list_of_evidence_has_a_bound() -> None:
    """The two lists that the servicer bounds by a setting have none in the contract."""

    def is_bounded(field: FieldDescriptor) -> bool:
        rules = field.GetOptions().Extensions[validate_pb2.field]
        if not field.is_repeated:
            return rules.string.HasField("max_len") or rules.string.HasField("pattern")
        items = rules.repeated.items.string
        is_long = field.type == FieldDescriptor.TYPE_STRING and not items.HasField("max_len")
        return rules.repeated.HasField("max_items") and not is_long

    unbounded = [name for name, field in strings_and_lists(Evidence.DESCRIPTOR) if not is_bounded(field)]
    assert unbounded == ["detections", "history"]


@pytest.mark.parametrize(
    ("metadata", "reason"), [((), "NO_API_KEY"), ((("x-api-key", "bad"),), "BAD_API_KEY")]
)
def test_a_call_without_a_valid_key_is_refused(grpc_stub: Any, metadata: Any, reason: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        grpc_stub.AssessEvent(AssessEventRequest(evidence=evidence_message()), metadata=metadata, timeout=90)
    problem = problem_of(cast(Any, refused.value))
    assert (type(problem), problem.reason) == (Unauthenticated, reason)


def test_the_status_of_the_reasoner(grpc_stub: Any) -> None:
    status = grpc_stub.GetReasonStatus(GetReasonStatusRequest(), metadata=KEY, timeout=90)
    assert (status.reasoner, status.state, status.detail) == ("rules/v2", REASONER_STATE_READY, "")
    assert (status.model, list(status.models), list(status.prompts)) == ("", ["rules/v2", "rules/v1"], [])
    assert (status.slots, status.assessing, status.assessed, status.failed) == (64, 1, 20, 3)
    assert status.HasField("since")
    with pytest.raises(grpc.RpcError):
        grpc_stub.GetReasonStatus(GetReasonStatusRequest(), timeout=90)
