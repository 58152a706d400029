"""The interceptor of every gRPC server: authentication, permissions, validation of requests, and errors."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from functools import lru_cache
from typing import Any, TypeAlias, cast

import grpc
import protovalidate
import structlog
from google.protobuf.message import Message
from prometheus_client import Histogram

from mesh.permissions import HEALTH, OF_A_KEY, UNDECLARED, Permission, permission_of
from mesh.problems import Internal, Invalid, Problem, Unauthenticated, Unavailable
from mesh.rpc import (
    API_KEY,
    AS_ITSELF,
    CALLER_CAMERA,
    CALLER_ID,
    CALLER_NAME,
    CALLER_PERMISSIONS,
    DETAILS,
    status_of,
)
from mesh.rpc.server import DoorInterceptor
from mesh.security import EVERYBODY, OPERATOR, SIBLING, Caller, Door
from mesh.security import caller as current
from mesh.telemetry.metrics import Instrument, Metrics
from mesh.telemetry.spans import request_span

log = structlog.get_logger(__name__)

OPEN = f"/{HEALTH}/"
UNARY_SECONDS = 60.0
# How much later than the event loop gRPC may think that a deadline is.
CLOCKS_SECONDS = 0.1
# Together with the seconds for which a key is cached, streams of a revoked key end within 5 s.
RECHECK_SECONDS = 1.0
# How long a call that receives a stream may go on after the server has begun to stop.
RECEIVING_SECONDS = 2.0
MAX_PERMISSIONS = 256  # different sets that are remembered

RPC_SECONDS = Instrument(
    "lares_rpc_seconds",
    "histogram",
    "From a gRPC call to its end, by its method and its code; calls within the process count, too.",
    ("method", "code"),
)
INSTRUMENTS = (RPC_SECONDS,)

Verify = Callable[[str], Awaitable[Caller]]
Headers: TypeAlias = dict[str, Any]


class CallInterceptor(DoorInterceptor):
    """Wraps every method behind one door.

    The caller, and whether it may call, are determined from the metadata and the method's name, before a
    message is read.
    """

    def __init__(self, door: Door, verify: Verify | None = None, metrics: Metrics | None = None) -> None:
        """`verify` returns the caller of an API key; None accepts calls without one. It concerns only the
        clients' door. The calls are measured in `metrics`."""
        self._door, self._verify = door, verify
        self._ending = asyncio.Event()
        self._seconds = (metrics or Metrics()).histogram(RPC_SECONDS)
        # Finding the metric with these labels costs more than changing it.
        self._by_labels: dict[tuple[str, str], Histogram] = {}

    def end_streams(self) -> None:
        self._ending.set()

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        method = handler_call_details.method
        if method.startswith(OPEN):
            return await continuation(handler_call_details)
        headers = dict(handler_call_details.invocation_metadata or ())
        try:
            caller = await self._caller(headers)
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            caller.require(permission_of(method))
        except Exception as error:
            return self._failing_handler(method, error)
        if handler.response_streaming:
            streaming = self._streaming(
                handler.unary_stream or handler.stream_stream, method, headers, caller
            )
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(streaming, handler.request_deserializer, handler.response_serializer)
        if handler.request_streaming:
            receiving = self._receiving(handler.stream_unary, method, headers, caller)
            return grpc.stream_unary_rpc_method_handler(
                receiving, handler.request_deserializer, handler.response_serializer
            )
        unary = self._unary(handler.unary_unary, method, headers, caller)
        return grpc.unary_unary_rpc_method_handler(
            unary, handler.request_deserializer, handler.response_serializer
        )

    def _unary(
        self, behaviour: Callable[..., Awaitable[Any]], method: str, headers: Headers, caller: Caller
    ) -> Callable[..., Awaitable[Any]]:
        async def unary(request: Any, context: Any) -> Any:
            async with self._ending_with_status(method, context):
                with _serving(method, headers, caller):
                    remaining = context.time_remaining()
                    async with asyncio.timeout(UNARY_SECONDS if remaining is None else remaining):
                        return await behaviour(_checked(request), context)

        return unary

    def _receiving(
        self, behaviour: Callable[..., Awaitable[Any]], method: str, headers: Headers, caller: Caller
    ) -> Callable[..., Awaitable[Any]]:
        """Of a method that receives a stream, which may take hours and ends by deadlines of its own."""

        async def receiving(requests: Any, context: Any) -> Any:
            async def only_response() -> AsyncGenerator[Any, None]:
                yield await behaviour(_checked(requests), context)

            async with self._ending_with_status(method, context):
                with _serving(method, headers, caller):
                    async with aclosing(only_response()) as responses:
                        permitted = self._while_permitted(
                            responses, method, headers, caller, RECEIVING_SECONDS
                        )
                        async with aclosing(permitted):
                            return await anext(permitted)

        return receiving

    def _streaming(
        self,
        behaviour: Callable[..., AsyncGenerator[Any, None]],
        method: str,
        headers: Headers,
        caller: Caller,
    ) -> Callable[..., AsyncIterator[Any]]:
        async def streaming(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._ending_with_status(method, context):
                with _serving(method, headers, caller):
                    async with aclosing(behaviour(_checked(request), context)) as responses:
                        async for response in self._while_permitted(responses, method, headers, caller):
                            yield response

        return streaming

    @asynccontextmanager
    async def _ending_with_status(self, method: str, context: Any) -> AsyncIterator[None]:
        """Ends the call with the status of what the block raises, and measures how long the block took."""
        began, code = time.perf_counter(), grpc.StatusCode.CANCELLED
        try:
            yield
            code = grpc.StatusCode.OK
        except Exception as error:
            if isinstance(error, grpc.aio.AbortError):
                raise
            code, problem = _status(context, method, error)
            details = ((DETAILS, status_of(problem).SerializeToString()),)
            await context.abort(code, problem.message, trailing_metadata=details)
        finally:
            self._observe(method, code.name, time.perf_counter() - began)

    def _observe(self, method: str, code: str, seconds: float) -> None:
        known = self._by_labels.get((method, code))
        if known is None:
            # Anybody can make up names of methods.
            label = method.removeprefix("/") if permission_of(method) != UNDECLARED else "other"
            known = self._by_labels[method, code] = self._seconds.labels(label, code)
        known.observe(seconds)

    def _failing_handler(self, method: str, error: Exception) -> Any:
        """A handler that raises the error. A handler of streams serves methods of all kinds here, because it
        can end a call without reading a request."""

        async def refuse(_: object, context: Any) -> None:
            async with self._ending_with_status(method, context):
                raise error

        return grpc.stream_stream_rpc_method_handler(refuse)

    async def _while_permitted(
        self,
        responses: AsyncGenerator[Any, None],
        method: str,
        headers: Headers,
        caller: Caller,
        patience: float = 0.0,
    ) -> AsyncGenerator[Any, None]:
        """Yields the responses for as long as the caller's permissions stay the same, and until `patience`
        seconds after the server has begun to stop. Both are checked also while no response arrives."""
        stream, waiting = asyncio.current_task(), False
        assert stream

        async def watch() -> None:
            try:
                await self._until_not_permitted(method, headers, caller, patience)
            finally:
                if waiting:
                    stream.cancel()

        watching = asyncio.create_task(watch())
        try:
            while not watching.done():
                waiting = True
                try:
                    response = await anext(responses, None)
                except asyncio.CancelledError:
                    if not watching.done():
                        raise
                    stream.uncancel()
                    break
                finally:
                    waiting = False
                if response is None:
                    return
                yield response
            watching.result()
        finally:
            watching.cancel()

    async def _until_not_permitted(
        self, method: str, headers: Headers, caller: Caller, patience: float
    ) -> None:
        """Raises Unauthenticated once the caller's key is revoked, Denied once it lacks the permission,
        Unavailable CALLER_CHANGED once any of its permissions has changed, and Unavailable STOPPING."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RECHECK_SECONDS):
                    await self._ending.wait()
            if self._ending.is_set():
                await asyncio.sleep(patience)
                raise Unavailable("this process is stopping: call again", "STOPPING")
            try:
                now = await self._caller(headers)
            except Problem as problem:
                if not problem.retryable:  # the key stays valid while the store cannot be reached
                    raise
                continue
            now.require(permission_of(method))
            if now != caller:
                raise Unavailable("this caller's permissions have changed: call again", "CALLER_CHANGED")

    async def _caller(self, headers: Headers) -> Caller:
        """The caller. Which headers are read depends on the door."""
        if self._door is Door.SIBLINGS:
            return _caller_named_by(headers)
        if self._door is Door.OPERATOR:
            return OPERATOR
        if self._verify is None:
            return EVERYBODY
        return await self._verify(_secret(headers))


def _caller_named_by(headers: Headers) -> Caller:
    """The caller that a sibling's headers name. Raises Unauthenticated unless they name exactly one."""
    if (CALLER_ID in headers) == (AS_ITSELF in headers):
        raise Unauthenticated(
            "a call between services must either name its end caller or state that it is the service's own",
            "CALLER_UNCLEAR",
        )
    if AS_ITSELF in headers:
        return SIBLING
    permissions = _permissions(headers.get(CALLER_PERMISSIONS, ""))
    name, camera_id = headers.get(CALLER_NAME, b"").decode(), headers.get(CALLER_CAMERA, "")
    return Caller("key", headers[CALLER_ID], name, permissions, camera_id)


@lru_cache(MAX_PERMISSIONS)
def _permissions(numbers: str) -> frozenset[Permission]:
    """The permissions in a sibling's header, without those that only siblings have."""
    named = (int(number) for number in numbers.split(",") if number.isdecimal())
    return OF_A_KEY & frozenset(cast("Iterable[Permission]", named))


@contextmanager
def _serving(method: str, headers: Headers, caller: Caller) -> Iterator[None]:
    """Makes the block part of the request that the headers name, with a span, and sets its caller."""
    with request_span(headers, method.removeprefix("/"), {"rpc.system": "grpc"}):
        current.set(caller)
        yield


def _secret(headers: Headers) -> str:
    secret: str = headers.get(API_KEY, "")
    if not secret:
        raise Unauthenticated("an API key is needed: send it as x-api-key", "NO_API_KEY")
    return secret


def _checked(request: Any) -> Any:
    if isinstance(request, Message):
        _check(request)
        return request
    return _checked_stream(request)


async def _checked_stream(requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
    async for request in requests:
        _check(request)
        yield request


def _check(request: Message) -> None:
    try:
        protovalidate.validate(request)
    except protovalidate.ValidationError as error:
        raise Invalid(str(error), "BAD_REQUEST") from None


def _status(context: Any, method: str, error: Exception) -> tuple[grpc.StatusCode, Problem]:
    if isinstance(error, TimeoutError):
        problem: Problem = Unavailable("this took too long", "DEADLINE")
        # gRPC's own code if it was the client's deadline; otherwise the limit was the server's.
        remaining = context.time_remaining()
        if remaining is not None and remaining < CLOCKS_SECONDS:
            return grpc.StatusCode.DEADLINE_EXCEEDED, problem
        return problem.code, problem
    if isinstance(error, Problem):
        return error.code, error
    log.error("gRPC call failed", method=method, exc_info=error)
    return grpc.StatusCode.INTERNAL, Internal("internal error", "INTERNAL")
