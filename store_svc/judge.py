"""How the judge of what is due says that it is doing."""

from collections.abc import Callable

import grpc

from lares.reason.v1.reason_service_pb2 import (
    JUDGE_STATE_UNREACHABLE,
    GetReasonStatusRequest,
    GetReasonStatusResponse,
)
from lares.reason.v1.reason_service_pb2_grpc import ReasonServiceStub
from mesh.problems import Problem
from mesh.rpc import call

SECONDS = 1.0  # whoever asks for the store's status waits for it


async def ask_judge(channel: Callable[[], grpc.aio.Channel]) -> GetReasonStatusResponse:
    """As of now, so that nothing is told that is long over. UNREACHABLE where nobody answers: events just
    wait then. `channel` is that to reason_svc; it may raise that nobody said where it runs."""
    try:
        stub = ReasonServiceStub(channel())
        return await call(stub.GetReasonStatus, GetReasonStatusRequest(), timeout=SECONDS)
    except Problem as problem:
        detail = f"reason_svc does not answer: {problem.message}"
        return GetReasonStatusResponse(state=JUDGE_STATE_UNREACHABLE, detail=detail)
