"""Expected errors.

A `Problem` is sent as a gRPC code with a google.rpc.ErrorInfo, and is raised as the same class by the caller.
Programs distinguish problems by code and reason, never by text.
"""

from typing import ClassVar

import grpc

DOMAIN = "lares"


class Problem(Exception):
    """An expected error: `message` is for people, `reason` for programs, `metadata` for both.

    `reason` is UPPER_SNAKE and stable. The values of `metadata` are strings.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, reason: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata = metadata


class NotFound(Problem):
    code = grpc.StatusCode.NOT_FOUND


class Invalid(Problem):
    code = grpc.StatusCode.INVALID_ARGUMENT


class Conflict(Problem):
    """What the request names exists already, or is in a state that does not allow the request."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Denied(Problem):
    code = grpc.StatusCode.PERMISSION_DENIED


class Unauthenticated(Problem):
    code = grpc.StatusCode.UNAUTHENTICATED


class Exhausted(Problem):
    """A limit was reached. The same request may succeed later."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    retryable = True


class Unavailable(Problem):
    code = grpc.StatusCode.UNAVAILABLE
    retryable = True


class Internal(Problem):
    """A bug in a service. Its details are in that service's log only."""


KINDS: dict[grpc.StatusCode, type[Problem]] = {
    kind.code: kind
    for kind in (NotFound, Invalid, Conflict, Denied, Unauthenticated, Exhausted, Unavailable, Internal)
}

# Codes that only gRPC itself returns, and the kinds of Problem that they become.
TRANSPORT_KINDS: dict[grpc.StatusCode, type[Problem]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.ABORTED: Unavailable,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.OUT_OF_RANGE: Invalid,
    grpc.StatusCode.UNIMPLEMENTED: NotFound,
}
