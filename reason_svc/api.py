"""Implements lares.reason.v1.ReasonService."""

from collections.abc import Callable

from lares.reason.v1 import reason_service_pb2 as pb
from lares.reason.v1.reason_service_pb2_grpc import ReasonServiceServicer
from lares.store.internal.v1.job_service_pb2 import ReassessmentRequest
from mesh.problems import Exhausted, Invalid
from reason_svc.assessor import Assessor
from reason_svc.messages import timestamp
from reason_svc.worker import WorkCounts

# More events than one camera can have in an hour.
MAX_HISTORY = 3600


class ReasonServicer(ReasonServiceServicer):
    """`max_detections` is how many detections an event of this Lares may have; `counts` are the worker's."""

    def __init__(self, assessor: Assessor, max_detections: int, counts: Callable[[], WorkCounts]) -> None:
        self._assessor = assessor
        self._counts = counts
        self._max_detections = max_detections
        self._in_progress = 0

    async def AssessEvent(self, request: pb.AssessEventRequest, context: object) -> pb.AssessEventResponse:
        evidence = request.evidence
        if len(evidence.detections) > self._max_detections or len(evidence.history) > MAX_HISTORY:
            raise Invalid(
                f"evidence may have at most {self._max_detections} detections and {MAX_HISTORY} past events",
                "TOO_MUCH_EVIDENCE",
            )
        # Half of the slots, so that a slow model remains available for the events.
        limit = max(1, self._assessor.reasoner.slots // 2)
        if self._in_progress >= limit:
            raise Exhausted(f"{limit} AssessEvent calls are in progress, the most", "TOO_MANY_JUDGEMENTS")
        self._in_progress += 1
        try:
            async with self._assessor.slot():
                choice = ReassessmentRequest(model=request.model, prompt=request.prompt)
                assessment, raw_answer = await self._assessor.assess(evidence, choice)
                return pb.AssessEventResponse(assessment=assessment, raw_answer=raw_answer)
        finally:
            self._in_progress -= 1

    async def GetReasonStatus(
        self, request: pb.GetReasonStatusRequest, context: object
    ) -> pb.GetReasonStatusResponse:
        reasoner = self._assessor.reasoner
        report, counts = reasoner.report(), self._counts()
        return pb.GetReasonStatusResponse(
            reasoner=reasoner.name,
            state=pb.ReasonerState.Value(f"REASONER_STATE_{report.state.value}"),
            detail=report.detail,
            since=timestamp(report.since),
            model=report.model,
            models=report.models,
            prompt=report.prompt,
            prompts=report.prompts,
            slots=reasoner.slots,
            assessing=counts.assessing,
            assessed=counts.assessed,
            failed=counts.failed,
            prompt_tokens=report.tokens.prompt,
            cached_tokens=report.tokens.cached,
            completion_tokens=report.tokens.completion,
        )
