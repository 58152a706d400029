"""ReasonService as a client calls it, by pytest-grpc."""

from datetime import UTC, datetime
from typing import Any, cast

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from lares.detect.v1.detection_pb2 import BoundingBox
from lares.reason.v1.assessment_pb2 import SEVERITY_MEDIUM
from lares.reason.v1.evidence_pb2 import CHANGE_KIND_WENT, Change, Evidence, EvidenceDetection, PastEvent
from lares.reason.v1.reason_service_pb2 import (
    REASONER_STATE_READY,
    AssessEventRequest,
    GetReasonStatusRequest,
)
from lares.reason.v1.reason_service_pb2_grpc import (
    ReasonServiceStub,
    add_ReasonServiceServicer_to_server,
)
from lares.scene.v1.scene_pb2 import ZONE_KIND_PRIVATE
from mesh.problems import Invalid, Unauthenticated
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
