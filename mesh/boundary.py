"""The server interceptors: who calls, what they may send, how failures leave."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, aclosing
from dataclasses import replace
from typing import Any

import grpc
import protovalidate
import structlog
from google.protobuf.message import Message
from opentelemetry.trace import Span

from mesh.problems import Internal, Invalid, Problem, Unauthenticated, Unavailable
from mesh.rpc import CALLER_ID, CALLER_NAME, DETAILS, status_of
from mesh.security import ANONYMOUS, SIBLING, Caller, caller
from mesh.spans import entered

log = structlog.get_logger(__name__)

OPEN = "/grpc.health.v1.Health/"
API_KEY = "x-api-key"
UNARY_SECONDS = 60.0
# With the seconds that a key is remembered, the streams of a revoked one end after less than 5.
RECHECK_SECONDS = 1.0

Verify = Callable[[str], Awaitable[Caller]]


class Doorstep(grpc.aio.ServerInterceptor):
    """Clients without a good key get no further, and nothing that they send is read: the Boundary, which can
    tell who calls, is asked when the whole message is here."""

    def __init__(self, verify: Verify) -> None:
        self._verify = verify

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        method = handler_call_details.method
        try:
            if not method.startswith(OPEN):
                await self._verify(_secret(dict(handler_call_details.invocation_metadata or ())))
        except Exception as error:
            return _refusal(method, error)
        return await continuation(handler_call_details)


class Boundary(grpc.aio.ServerInterceptor):
    """Wraps every method. `verify` turns an API key into its caller; None takes everybody in."""

    def __init__(self, verify: Verify | None) -> None:
        self._verify = verify

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(OPEN):
            return handler
        if handler.response_streaming:
            streaming = self._streaming(handler.unary_stream or handler.stream_stream, method)
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(streaming, handler.request_deserializer, handler.response_serializer)
        unary = self._unary(handler.unary_unary or handler.stream_unary, method)
        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(unary, handler.request_deserializer, handler.response_serializer)

    def _unary(self, behaviour: Callable[..., Awaitable[Any]], method: str) -> Callable[..., Awaitable[Any]]:
        async def unary(request: Any, context: Any) -> Any:
            try:
                with _serving(context, method):
                    await self._admit(context)
                    remaining = context.time_remaining()
                    async with asyncio.timeout(UNARY_SECONDS if remaining is None else remaining):
                        return await behaviour(_checked(request), context)
            except Exception as error:
                return await _leave(context, method, error)

        return unary

    def _streaming(
        self, behaviour: Callable[..., AsyncGenerator[Any, None]], method: str
    ) -> Callable[..., AsyncIterator[Any]]:
        async def streaming(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                with _serving(context, method):
                    await self._admit(context)
                    async with aclosing(behaviour(_checked(request), context)) as responses:
                        async for response in self._while_welcome(responses, context):
                            yield response
            except Exception as error:
                await _leave(context, method, error)

        return streaming

    async def _while_welcome(
        self, responses: AsyncGenerator[Any, None], context: Any
    ) -> AsyncGenerator[Any, None]:
        """The same, for as long as the caller's key opens the door, whether or not anything comes."""
        stream, waiting = asyncio.current_task(), False
        assert stream

        async def watch() -> None:
            try:
                await self._until_unwelcome(context)
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

    async def _until_unwelcome(self, context: Any) -> None:
        """Raises Unauthenticated once the caller's key is revoked."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                await self._caller(context, _headers(context))
            except Problem as problem:
                if not problem.retryable:  # a store that is away is no reason to doubt a key
                    raise

    async def _admit(self, context: Any) -> None:
        caller.set(await self._caller(context, _headers(context)))

    async def _caller(self, context: Any, headers: dict[str, Any]) -> Caller:
        if _is_sibling(context):
            if CALLER_ID not in headers:
                return SIBLING
            return Caller("key", headers[CALLER_ID], headers.get(CALLER_NAME, b"").decode())
        if self._verify is None:
            return replace(ANONYMOUS, kind="key", name="authentication is off")
        return await self._verify(_secret(headers))


def _serving(context: Any, method: str) -> AbstractContextManager[Span]:
    """The call as part of the request that its metadata name, under a span of its own."""
    headers = {name: value for name, value in _headers(context).items() if isinstance(value, str)}
    return entered(headers, method.removeprefix("/"), {"rpc.system": "grpc"})


def _headers(context: Any) -> dict[str, Any]:
    return dict(context.invocation_metadata() or ())


def _secret(headers: dict[str, Any]) -> str:
    secret: str = headers.get(API_KEY, "")
    if not secret:
        raise Unauthenticated("an API key is needed: send it as x-api-key", "NO_API_KEY")
    return secret


def _is_sibling(context: Any) -> bool:
    """The private socket lies in a folder that only Lares may enter; a client certificate is only asked for,
    and only accepted from our CA, on the address for siblings."""
    return context.peer().startswith("unix:") or "x509_pem_cert" in (context.auth_context() or {})


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
