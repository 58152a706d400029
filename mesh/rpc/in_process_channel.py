"""The caller's end of calls within this process: a grpc.aio channel without a connection.

It is used like a channel to a socket; tests/contract/test_channel*.py hold both to the same behaviour. They
differ only where a socket would hide a failure:

- A handler that raises CancelledError ends the call with CANCELLED; over a socket nothing ends the call.
- An error in the caller's own request iterator ends the call with UNKNOWN; grpc.aio raises CancelledError.
- A call to a server that has stopped ends with UNAVAILABLE even with wait_for_ready, as it does not restart.
- A stream that its caller drops ends its handler at once.
"""

import asyncio
from collections.abc import AsyncIterable, Callable, Generator, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import grpc
import structlog

from mesh.rpc.in_process_call import FINISHED, CallStatus, Exchange, Metadatum, checked

log = structlog.get_logger(__name__)

Requests = AsyncIterable[Any] | Iterable[Any]
Serialize = Callable[[Any], bytes]
Deserialize = Callable[[bytes], Any]
Headers = Iterable[tuple[str, str | bytes]]

LOCALLY_CANCELLED = CallStatus(grpc.StatusCode.CANCELLED, "Locally cancelled by application!", by_caller=True)


class CallAcceptor(Protocol):
    """The part of a server that a channel uses."""

    @property
    def state(self) -> grpc.ChannelConnectivity: ...

    async def state_changed(self) -> None: ...

    def open(self, method: str, metadata: tuple[Metadatum, ...], timeout: float | None) -> Exchange: ...

    def accept(self, exchange: Exchange, *, wait: bool) -> None: ...


class InProcessCall(grpc.aio.Call):
    """The base of all four kinds of calls. Raises CancelledError only if the caller has cancelled."""

    def __init__(
        self, exchange: Exchange, serialize: Serialize, deserialize: Deserialize, *, iterated: bool = False
    ) -> None:
        """With `iterated` the requests come from an iterator, and `write` raises."""
        self._exchange, self._serialize, self._deserialize = exchange, serialize, deserialize
        self._iterated = iterated

    def cancel(self) -> bool:
        return self._exchange.abandon(LOCALLY_CANCELLED)

    def cancelled(self) -> bool:
        status = self._exchange.status
        return status is not None and status.code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        return self._exchange.status is not None

    def time_remaining(self) -> float | None:
        return self._exchange.time_remaining()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._exchange.add_done_callback(partial(callback, self))

    async def initial_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata(*await self._exchange.begun())

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata(*(await self._exchange.ended()).trailing)

    async def code(self) -> grpc.StatusCode:
        return (await self._exchange.ended()).code

    async def details(self) -> str:
        return (await self._exchange.ended()).details

    async def wait_for_connection(self) -> None:
        await self._exchange.accepted.wait()
        if self._exchange.status:
            _raise_for(self._exchange)

    async def _receive(self) -> bytes | None:
        """The next response, or None after the last. Raises the call's status if it is not OK."""
        try:
            message = await self._exchange.responses.get()
            if message is None:
                await self._exchange.ended()
                _raise_for(self._exchange)
        except asyncio.CancelledError:
            self.cancel()
            raise
        return message


class _UnaryResponse(InProcessCall):
    _response: bytes | None = None

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer().__await__()

    async def _answer(self) -> Any:
        if (message := await self._receive()) is not None:
            self._response = message
            await self._receive()
        if self._response is None:
            raise grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, details="the handler sent no response")
        return self._deserialize(self._response)


class _StreamResponse(InProcessCall):
    def __del__(self) -> None:
        exchange = self._exchange
        if exchange.status is None and not exchange.loop.is_closed():
            # The garbage collector may run in any thread.
            gone = CallStatus(grpc.StatusCode.CANCELLED, "Cancelled upon garbage collection!", by_caller=True)
            exchange.loop.call_soon_threadsafe(exchange.abandon, gone)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if (message := await self._receive()) is None:
            raise StopAsyncIteration
        return self._deserialize(message)

    async def read(self) -> Any:
        message = await self._receive()
        return grpc.aio.EOF if message is None else self._deserialize(message)


class _StreamRequest(InProcessCall):
    _done_writing = False

    async def write(self, request: Any) -> None:
        self._check_style()
        if self._exchange.status:
            raise asyncio.InvalidStateError(FINISHED)
        if self._done_writing:
            raise asyncio.InvalidStateError('RPC is half closed after calling "done_writing".')
        try:
            await _send(self._exchange, self._serialize, request)
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def done_writing(self) -> None:
        self._check_style()
        self._done_writing = True
        self._exchange.requests.end()

    def _check_style(self) -> None:
        if self._iterated:
            raise grpc.aio.UsageError("The iterator and read/write APIs may not be mixed on a single RPC.")


class UnaryUnaryCall(_UnaryResponse, grpc.aio.UnaryUnaryCall[Any, Any]): ...


class UnaryStreamCall(_StreamResponse, grpc.aio.UnaryStreamCall[Any, Any]): ...


class StreamUnaryCall(_StreamRequest, _UnaryResponse, grpc.aio.StreamUnaryCall[Any, Any]): ...


class StreamStreamCall(_StreamRequest, _StreamResponse, grpc.aio.StreamStreamCall[Any, Any]): ...


UnaryCall = TypeVar("UnaryCall", UnaryUnaryCall, UnaryStreamCall)
StreamCall = TypeVar("StreamCall", StreamUnaryCall, StreamStreamCall)


class InProcessChannel(grpc.aio.Channel):
    """Made by InProcessServer.channel. Calls accept `credentials` and `compression`, and ignore them."""

    def __init__(self, server: CallAcceptor) -> None:
        self._server = server
        self._calls: set[Exchange] = set()
        self._closed = asyncio.Event()

    def unary_unary(self, method: str, *serializers: Any, **named: Any) -> Any:
        return partial(self._call_unary, UnaryUnaryCall, method, *_pair(*serializers, **named))

    def unary_stream(self, method: str, *serializers: Any, **named: Any) -> Any:
        return partial(self._call_unary, UnaryStreamCall, method, *_pair(*serializers, **named))

    def stream_unary(self, method: str, *serializers: Any, **named: Any) -> Any:
        return partial(self._call_stream, StreamUnaryCall, method, *_pair(*serializers, **named))

    def stream_stream(self, method: str, *serializers: Any, **named: Any) -> Any:
        return partial(self._call_stream, StreamStreamCall, method, *_pair(*serializers, **named))

    def _call_unary(
        self,
        kind: type[UnaryCall],
        method: str,
        serialize: Serialize,
        deserialize: Deserialize,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Headers | None = None,
        wait_for_ready: bool | None = None,
        **_: object,
    ) -> UnaryCall:
        message = serialize(request)
        exchange = self._exchange(method, metadata, timeout)
        if status := exchange.too_large(message, "CLIENT"):
            exchange.abandon(status)
        exchange.requests.put_last(message)
        self._server.accept(exchange, wait=bool(wait_for_ready))
        return kind(exchange, serialize, deserialize)

    def _call_stream(
        self,
        kind: type[StreamCall],
        method: str,
        serialize: Serialize,
        deserialize: Deserialize,
        request_iterator: Requests | None = None,
        timeout: float | None = None,
        metadata: Headers | None = None,
        wait_for_ready: bool | None = None,
        **_: object,
    ) -> StreamCall:
        exchange = self._exchange(method, metadata, timeout)
        self._server.accept(exchange, wait=bool(wait_for_ready))
        if request_iterator is not None and exchange.status is None:
            # Without a reference to the call, so that a stream can end when its caller drops it.
            exchange.send(_send_all(exchange, serialize, request_iterator))
        return kind(exchange, serialize, deserialize, iterated=request_iterator is not None)

    def _exchange(self, method: str, metadata: Headers | None, timeout: float | None) -> Exchange:
        if self._closed.is_set():
            raise grpc.aio.UsageError("Channel is closed.")
        exchange = self._server.open(method, checked(metadata), timeout)
        self._calls.add(exchange)
        exchange.add_done_callback(partial(self._calls.discard, exchange))
        return exchange

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: ARG002
        return grpc.ChannelConnectivity.SHUTDOWN if self._closed.is_set() else self._server.state

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Waits for the server's state to change. Closing the channel does not end the wait."""
        while self.get_state() is last_observed_state:
            await self._server.state_changed()

    async def channel_ready(self) -> None:
        while (state := self.get_state()) is not grpc.ChannelConnectivity.READY:
            await self.wait_for_state_change(state)

    async def close(self, grace: float | None = None) -> None:
        """Refuses new calls, gives running ones `grace` seconds, then cancels them as a caller would."""
        self._closed.set()
        if grace and self._calls:
            ends = [asyncio.ensure_future(exchange.ended()) for exchange in self._calls]
            await asyncio.wait(ends, timeout=grace)
            for end in ends:
                end.cancel()
        for exchange in list(self._calls):
            exchange.abandon(LOCALLY_CANCELLED)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _pair(
    request_serializer: Serialize | None = None,
    response_deserializer: Deserialize | None = None,
    _registered_method: bool = False,
) -> tuple[Serialize, Deserialize]:
    """The functions that turn a method's messages into bytes and back. Without them messages are bytes."""
    return request_serializer or bytes, response_deserializer or bytes


async def _send(exchange: Exchange, serialize: Serialize, request: Any) -> None:
    """Sends a request. Raises the call's status if the call has ended."""
    message = serialize(request)
    if status := exchange.too_large(message, "CLIENT"):
        exchange.abandon(status)
    if not await exchange.requests.put(message):
        _raise_for(exchange)


async def _send_all(exchange: Exchange, serialize: Serialize, requests: Requests) -> None:
    try:
        if isinstance(requests, AsyncIterable):
            async for request in requests:
                await _send(exchange, serialize, request)
        else:
            for request in requests:
                await _send(exchange, serialize, request)
        exchange.requests.end()
    except (Exception, asyncio.CancelledError) as error:
        # If the call has ended, the error is this task's cancellation or the call's status.
        if exchange.abandon(CallStatus(grpc.StatusCode.UNKNOWN, "Exception iterating requests!")):
            log.error("request iterator failed", method=exchange.method, exc_info=error)


def _raise_for(exchange: Exchange) -> None:
    """Raises the status of a call that has ended, if it is not OK."""
    status = exchange.status
    assert status
    if status.by_caller:
        raise asyncio.CancelledError
    if status.code is not grpc.StatusCode.OK:
        initial, trailing = (
            grpc.aio.Metadata(*entries) for entries in (exchange.initial or (), status.trailing)
        )
        raise grpc.aio.AioRpcError(status.code, initial, trailing, status.details)
