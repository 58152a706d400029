"""Problems as gRPC statuses, and back."""

from datetime import timedelta

import grpc
import structlog
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from mesh.problems import DOMAIN, KINDS, TRANSPORT_KINDS, Internal, Problem
from mesh.rpc.protocol import DETAILS

log = structlog.get_logger(__name__)

# In a problem's metadata: after how many seconds the same request may succeed. Clients of gRPC get it as a
# google.rpc.RetryInfo, too.
RETRY_AFTER = "retry_after_seconds"
MESSAGES = {
    grpc.StatusCode.UNAVAILABLE: "a part of Lares cannot be reached at present",
    grpc.StatusCode.CANCELLED: "a part of Lares ended this call",
    grpc.StatusCode.DEADLINE_EXCEEDED: "this took too long",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "this is too large, or too many calls are running",
}


def status_of(problem: Problem) -> Status:
    info = ErrorInfo(reason=problem.reason, domain=DOMAIN, metadata=problem.metadata)
    details: list[Message] = [info]
    if seconds := problem.metadata.get(RETRY_AFTER):
        retry = RetryInfo()
        retry.retry_delay.FromTimedelta(timedelta(seconds=float(seconds)))
        details.append(retry)
    status = Status(code=problem.code.value[0], message=problem.message)
    for detail in details:
        status.details.add().Pack(detail)
    return status


def problem_of(error: grpc.aio.AioRpcError) -> Problem:
    """The Problem that the server raised, made anew from its code and reason.

    For an error of gRPC itself it is a Problem with a general message: gRPC's own text names sockets and
    addresses, and is only logged.
    """
    code = error.code()
    kind = KINDS.get(code) or TRANSPORT_KINDS.get(code, Internal)
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS and isinstance(value, bytes):
            status = Status.FromString(value)
            for detail in status.details:
                info = ErrorInfo()
                if detail.Unpack(info) and info.domain == DOMAIN:
                    return kind(status.message, info.reason, **dict(info.metadata))
    log.info("gRPC call failed in transport", code=code.name, details=error.details())
    return kind(MESSAGES.get(code, "a part of Lares returned an unexpected error"), code.name)
