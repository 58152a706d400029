"""Callers for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from mesh.rpc import AS_ITSELF, CALLER_ID
from mesh.security import Caller, caller


@contextmanager
def calling_as(who: Caller) -> Iterator[None]:
    token = caller.set(who)
    try:
        yield
    finally:
        caller.reset(token)


class AsItself(
    grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamUnaryClientInterceptor
):
    """A client interceptor that makes calls without an end caller those of a sibling itself."""

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(_named(client_call_details), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(_named(client_call_details), request)

    def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return continuation(_named(client_call_details), request_iterator)


def _named(details: Any) -> Any:
    metadata = tuple(details.metadata or ())
    if CALLER_ID in dict(metadata):
        return details
    return details._replace(metadata=(*metadata, (AS_ITSELF, "1")))
