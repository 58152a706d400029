"""The server interceptor: who calls, whether they may, what they may send, how failures leave."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, TypeAlias, cast

import grpc
import protovalidate
import structlog
from google.protobuf.message import Message

from mesh.permissions import HEALTH, OF_A_KEY, Permission, permission_of
from mesh.problems import Internal, Invalid, Problem, Unauthenticated, Unavailable
from mesh.rpc import API_KEY, AS_ITSELF, CALLER_ID, CALLER_NAME, CALLER_PERMISSIONS, DETAILS, status_of
from mesh.security import EVERYBODY, OPERATOR, SIBLING, Caller, Door, caller
from mesh.telemetry.spans import request_span

log = structlog.get_logger(__name__)

OPEN = f"/{HEALTH}/"
UNARY_SECONDS = 60.0
# With the seconds that a key is remembered, the streams of a revoked one end after less than 5.
RECHECK_SECONDS = 1.0

Verify = Callable[[str], Awaitable[Caller]]
Headers: TypeAlias = dict[str, Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method behind one door. Who calls, and whether they may, is decided by the metadata and the
    method's name, before a message is read. `verify` turns an API key into its caller, on the clients' door;
    None takes everybody in."""

    def __init__(self, door: Door, verify: Verify | None = None) -> None:
        self._door, self._verify = door, verify

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        method = handler_call_details.method
        if method.startswith(OPEN):
            return await continuation(handler_call_details)
        headers = dict(handler_call_details.invocation_metadata or ())
        try:
            who = await self._caller(headers)
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            who.require(permission_of(method))
        except Exception as error:
            return _refusal(method, error)
        if handler.response_streaming:
            streaming = self._streaming(handler.unary_stream or handler.stream_stream, method, headers, who)
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(streaming, handler.request_deserializer, handler.response_serializer)
        unary = self._unary(handler.unary_unary or handler.stream_unary, method, headers, who)
        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(unary, handler.request_deserializer, handler.response_serializer)

    def _unary(
        self, behaviour: Callable[..., Awaitable[Any]], method: str, headers: Headers, who: Caller
    ) -> Callable[..., Awaitable[Any]]:
        async def unary(request: Any, context: Any) -> Any:
            try:
                with _serving(method, headers, who):
                    remaining = context.time_remaining()
                    async with asyncio.timeout(UNARY_SECONDS if remaining is None else remaining):
                        return await behaviour(_checked(request), context)
            except Exception as error:
                return await _leave(context, method, error)

        return unary

    def _streaming(
        self, behaviour: Callable[..., AsyncGenerator[Any, None]], method: str, headers: Headers, who: Caller
    ) -> Callable[..., AsyncIterator[Any]]:
        async def streaming(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                with _serving(method, headers, who):
                    async with aclosing(behaviour(_checked(request), context)) as responses:
                        async for response in self._while_welcome(responses, method, headers, who):
                            yield response
            except Exception as error:
                await _leave(context, method, error)

        return streaming

    async def _while_welcome(
        self, responses: AsyncGenerator[Any, None], method: str, headers: Headers, who: Caller
    ) -> AsyncGenerator[Any, None]:
        """The same, for as long as the caller may do what it could at first, even while nothing comes."""
        stream, waiting = asyncio.current_task(), False
        assert stream

        async def watch() -> None:
            try:
                await self._until_unwelcome(method, headers, who)
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

    async def _until_unwelcome(self, method: str, headers: Headers, who: Caller) -> None:
        """Raises Unauthenticated once the caller's key is revoked, Denied once it no longer permits this, and
        Unavailable CALLER_CHANGED once it permits other things than before."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                now = await self._caller(headers)
            except Problem as problem:
                if not problem.retryable:  # a store that is away is no reason to doubt a key
                    raise
                continue
            now.require(permission_of(method))
            if now != who:
                raise Unavailable("this caller's permissions have changed: call again", "CALLER_CHANGED")

    async def _caller(self, headers: Headers) -> Caller:
        """The door decides which of the headers count."""
        if self._door is Door.SIBLINGS:
            return _named(headers)
        if self._door is Door.OPERATOR:
            return OPERATOR
        if self._verify is None:
            return EVERYBODY
        return await self._verify(_secret(headers))


def _named(headers: Headers) -> Caller:
    """For whom a sibling says that it calls. Raises Unauthenticated where it does not say exactly one."""
    if (CALLER_ID in headers) == (AS_ITSELF in headers):
        raise Unauthenticated(
            "a call between services must name its end caller, or say that it is the service's own",
            "CALLER_UNCLEAR",
        )
    if AS_ITSELF in headers:
        return SIBLING
    named = (int(number) for number in headers.get(CALLER_PERMISSIONS, "").split(",") if number.isdecimal())
    # What only siblings may do, no end caller can.
    permissions = OF_A_KEY & frozenset(cast("Iterable[Permission]", named))
    return Caller("key", headers[CALLER_ID], headers.get(CALLER_NAME, b"").decode(), permissions)


@contextmanager
def _serving(method: str, headers: Headers, who: Caller) -> Iterator[None]:
    """The block is part of the request that the metadata name, under a span of its own, and its caller's."""
    ids = {name: value for name, value in headers.items() if isinstance(value, str)}
    with request_span(ids, method.removeprefix("/"), {"rpc.system": "grpc"}):
        caller.set(who)
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


def _refusal(method: str, error: Exception) -> Any:
    """A handler of any method: a stream's may answer without having read."""

    async def refuse(_: object, context: Any) -> None:
        await _leave(context, method, error)

    return grpc.stream_stream_rpc_method_handler(refuse)


async def _leave(context: Any, method: str, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, TimeoutError):
        error = Unavailable("this took too long", "DEADLINE")
    if not isinstance(error, Problem):
        log.error("call failed", method=method, exc_info=error)
        error = Internal("internal error", "INTERNAL")
    status = status_of(error)
    await context.abort(error.code, error.message, trailing_metadata=((DETAILS, status.SerializeToString()),))
