"""What can go wrong, said once.

A `Problem` crosses every wire as a gRPC code plus google.rpc.ErrorInfo and comes out as the same class:
code and reason decide, never the text.
"""

from typing import ClassVar

import grpc

DOMAIN = "lares"


class Problem(Exception):
    """An expected failure: a sentence for people, a reason for programs, metadata for both.

    `reason` is UPPER_SNAKE and stable; `metadata` values are strings.
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
    """The thing exists already, or is in a state that forbids this."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Denied(Problem):
    code = grpc.StatusCode.PERMISSION_DENIED


class Unauthenticated(Problem):
    code = grpc.StatusCode.UNAUTHENTICATED


class Exhausted(Problem):
    """A bound was reached; later is another matter."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    retryable = True


class Unavailable(Problem):
    code = grpc.StatusCode.UNAVAILABLE
    retryable = True


class Internal(Problem):
    """A bug on the far side of a wire, without its details."""


KINDS: dict[grpc.StatusCode, type[Problem]] = {
    kind.code: kind
    for kind in (NotFound, Invalid, Conflict, Denied, Unauthenticated, Exhausted, Unavailable, Internal)
}

# Codes that gRPC itself gives, and the kind of Problem they mean here.
TRANSPORT_KINDS: dict[grpc.StatusCode, type[Problem]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.ABORTED: Unavailable,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.OUT_OF_RANGE: Invalid,
    grpc.StatusCode.UNIMPLEMENTED: NotFound,
}
