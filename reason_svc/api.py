"""lares.reason.v1.ReasonService."""

from lares.reason.v1 import reason_service_pb2 as pb
from lares.reason.v1.reason_service_pb2_grpc import ReasonServiceServicer
from mesh.problems import Invalid
from mesh.security import require_caller
from reason_svc.judging import Judge

# More than a camera's hour can hold when photos come as they should.
MOST_HISTORY = 3600


class ReasonServicer(ReasonServiceServicer):
    """`most_detections` is as much as an event of this Lares may have."""

    def __init__(self, judge: Judge, most_detections: int) -> None:
        self._judge = judge
        self._most_detections = most_detections

    async def AssessEvent(self, request: pb.AssessEventRequest, context: object) -> pb.AssessEventResponse:
        require_caller()
        evidence = request.evidence
        if len(evidence.detections) > self._most_detections or len(evidence.history) > MOST_HISTORY:
            raise Invalid(
                f"evidence holds at most {self._most_detections} detections and {MOST_HISTORY} past events",
                "TOO_MUCH_EVIDENCE",
            )
        return pb.AssessEventResponse(assessment=await self._judge.assess(evidence))
