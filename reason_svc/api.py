"""lares.reason.v1.ReasonService."""

from collections.abc import Callable

from lares.reason.v1 import reason_service_pb2 as pb
from lares.reason.v1.reason_service_pb2_grpc import ReasonServiceServicer
from mesh.problems import Exhausted, Invalid
from reason_svc.judging import Judge
from reason_svc.messages import stamp
from reason_svc.tally import Tally

# More than a camera's hour can hold when photos come as they should.
MOST_HISTORY = 3600


class ReasonServicer(ReasonServiceServicer):
    """`most_detections` is as much as an event of this Lares may have; `tally` is the worker's."""

    def __init__(self, judge: Judge, most_detections: int, tally: Callable[[], Tally]) -> None:
        self._judge = judge
        self._tally = tally
        self._asked = 0
        self._most_detections = most_detections

    async def AssessEvent(self, request: pb.AssessEventRequest, context: object) -> pb.AssessEventResponse:
        evidence = request.evidence
        if len(evidence.detections) > self._most_detections or len(evidence.history) > MOST_HISTORY:
            raise Invalid(
                f"evidence holds at most {self._most_detections} detections and {MOST_HISTORY} past events",
                "TOO_MUCH_EVIDENCE",
            )
        # Half of the slots: a model that is slow must stay there for the events.
        most = max(1, self._judge.reasoner.slots // 2)
        if self._asked >= most:
            raise Exhausted(f"judgements asked for and not yet made: {most}", "TOO_MANY_JUDGEMENTS")
        self._asked += 1
        try:
            async with self._judge.turn():
                assessment, raw_answer = await self._judge.assess(evidence)
                return pb.AssessEventResponse(assessment=assessment, raw_answer=raw_answer)
        finally:
            self._asked -= 1

    async def GetReasonStatus(
        self, request: pb.GetReasonStatusRequest, context: object
    ) -> pb.GetReasonStatusResponse:
        reasoner = self._judge.reasoner
        report, tally = reasoner.report(), self._tally()
        return pb.GetReasonStatusResponse(
            reasoner=reasoner.name,
            state=pb.ReasonerState.Value(f"REASONER_STATE_{report.state.value}"),
            detail=report.detail,
            since=stamp(report.since),
            model=report.model,
            models=report.models,
            prompt=report.prompt,
            prompts=report.prompts,
            slots=reasoner.slots,
            assessing=tally.assessing,
            assessed=tally.assessed,
            failed=tally.failed,
            prompt_tokens=report.tokens.prompt,
            cached_tokens=report.tokens.cached,
            completion_tokens=report.tokens.completion,
        )
