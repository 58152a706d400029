"""Has a reasoner assess labelled events: rules in this process, or the reasoner of a running Lares."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import grpc

from lares.reason.v1.evidence_pb2 import Evidence
from lares.reason.v1.reason_service_pb2 import AssessEventRequest
from lares.reason.v1.reason_service_pb2_grpc import ReasonServiceStub
from reason_svc.messages import evidence_of
from reason_svc.reasoner import ReasonerResult
from reason_svc.rules.v1 import scoring as v1
from reason_svc.rules.v2 import scoring as v2
from tests.judge.context import EvidenceKind, evidence_message
from tests.judge.figures import Scores
from tests.judge.labelled import LabelledEvent

RULES = {v1.NAME: v1.assess, v2.NAME: v2.assess}
# A language model on a slow machine takes minutes; more than one request at a time makes it no faster.
SECONDS = 600.0

Assess = Callable[[Evidence], int | None]
Change = Callable[[Evidence], Evidence]


def by_rules(name: str = v2.NAME) -> Assess:
    assess = RULES[name]
    return lambda message: assess(evidence_of(message)).score


def factors_by_rules(message: Evidence) -> ReasonerResult:
    return v2.assess(evidence_of(message))


def scores_of(
    events: Iterable[LabelledEvent],
    kind: EvidenceKind,
    assess: Assess,
    change: Change = lambda evidence: evidence,
) -> Scores:
    """The scores by the events' ids, of their evidence with a change."""
    return {event.id: assess(change(evidence_message(event.item, kind))) for event in events}


class RunningLares(AbstractContextManager["RunningLares"]):
    """The reasoner of a running Lares, over gRPC. An event that it cannot assess has no score."""

    def __init__(self, address: str, key_file: Path) -> None:
        self._metadata = (("x-api-key", key_file.read_text().strip()),)
        self._channel = grpc.insecure_channel(address)
        self._reason = ReasonServiceStub(self._channel)

    def assess(self, message: Evidence) -> int | None:
        request = AssessEventRequest(evidence=message)
        try:
            response = self._reason.AssessEvent(request, metadata=self._metadata, timeout=SECONDS)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED):
                raise
            print(f"{message.event_id}: {error.code().name}: {error.details()}")
            return None
        return int(response.assessment.score)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()
