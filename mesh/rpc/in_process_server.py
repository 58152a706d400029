"""A grpc.aio server without a port: serves callers in the same process."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Never, Self

import grpc
import structlog

from mesh.rpc.in_process_call import FINISHED, CallStatus, Exchange, Metadatum, checked
from mesh.rpc.in_process_channel import InProcessChannel

log = structlog.get_logger(__name__)

PEER = "in-process"
# The time that cancelled handlers have to clean up.
CLEAN_UP_SECONDS = 5.0
READY = grpc.ChannelConnectivity.READY

Headers = Iterable[tuple[str, str | bytes]]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


class InProcessServer(grpc.aio.Server):
    """Serves servicers, added by their generated add_XServicer_to_server, to the channels it makes.

    Messages are serialised, and calls pass through the interceptors. Each handler, which must be async, runs
    in a task of its own in a copy of the context in which `start` was called, as on a grpc.aio server.
    """

    def __init__(
        self, interceptors: Sequence[grpc.aio.ServerInterceptor] = (), *, max_message_bytes: int
    ) -> None:
        """A message of more than `max_message_bytes`, in either direction, ends its call with
        RESOURCE_EXHAUSTED."""
        self._max_message_bytes = max_message_bytes
        self._generic: list[grpc.GenericRpcHandler] = []
        self._methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        # Returns a method's handler with the interceptors applied, or None if there is no such method.
        self._handler: Continuation = self._find
        for interceptor in reversed(interceptors):
            self._handler = partial(interceptor.intercept_service, self._handler)
        self._state = grpc.ChannelConnectivity.IDLE
        self._change = asyncio.Event()
        self._context = Context()
        # Calls that wait for the start, calls whose handlers run, and the tasks of both.
        self._waiting: list[Exchange] = []
        self._running: dict[asyncio.Task[None], Exchange] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Adds handlers that are asked for methods which no servicer has registered by name."""
        self._generic.extend(generic_rpc_handlers)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"
    ) -> None:
        for name, handler in method_handlers.items():
            self._methods[f"/{service_name}/{name}"] = handler

    def add_insecure_port(self, address: str) -> int:  # noqa: ARG002
        raise grpc.aio.UsageError("an in-process server does not listen on ports")

    def add_secure_port(self, address: str, server_credentials: object) -> int:  # noqa: ARG002
        raise grpc.aio.UsageError("an in-process server does not listen on ports")

    def channel(self) -> InProcessChannel:
        """A channel to this server. Before the start, calls with wait_for_ready wait, and others end with
        UNAVAILABLE."""
        return InProcessChannel(self)

    async def start(self) -> None:
        if self._state is not grpc.ChannelConnectivity.IDLE:
            raise grpc.aio.UsageError("Server not in ready state")
        self._context = copy_context()
        self._become(READY)
        for exchange in self._waiting:
            self._run(exchange)
        self._waiting.clear()

    async def stop(self, grace: float | None) -> None:
        """Refuses new calls, gives running ones `grace` seconds, then cancels them and awaits their handlers.

        Afterwards no task of this server is left, except for handlers that take more than 5 s to end. Those
        are logged.
        """
        self._become(grpc.ChannelConnectivity.SHUTDOWN)
        for exchange in self._waiting:
            exchange.abandon(_unavailable("the server has stopped"))
        self._waiting.clear()
        if grace and self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task, exchange in list(self._running.items()):
            if not exchange.abandon(_unavailable("Cancelling all calls")) and not task.cancelling():
                task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLEAN_UP_SECONDS):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        for exchange in self._running.values():
            log.error("gRPC handler has not ended", method=exchange.method)

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Returns True if the server still runs after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while self._state is not grpc.ChannelConnectivity.SHUTDOWN or self._tasks:
                    await (asyncio.wait(self._tasks) if self._tasks else self.state_changed())
        except TimeoutError:
            return True
        return False

    @property
    def state(self) -> grpc.ChannelConnectivity:
        """IDLE, READY or SHUTDOWN."""
        return self._state

    async def state_changed(self) -> None:
        await self._change.wait()

    def _become(self, state: grpc.ChannelConnectivity) -> None:
        self._state = state
        self._change.set()
        self._change = asyncio.Event()

    def open(self, method: str, metadata: tuple[Metadatum, ...], timeout: float | None) -> Exchange:
        return Exchange(method, metadata, timeout, self._max_message_bytes, self._tasks)

    def accept(self, exchange: Exchange, *, wait: bool) -> None:
        """Runs the call's handler. Before the start the call waits if it may; otherwise it ends."""
        if self._state is READY:
            self._run(exchange)
        elif self._state is grpc.ChannelConnectivity.SHUTDOWN:
            exchange.abandon(_unavailable("the server has stopped"))
        elif wait:
            self._waiting.append(exchange)
        else:
            exchange.abandon(_unavailable("the server has not started"))

    def _run(self, exchange: Exchange) -> None:
        if exchange.status:
            return
        context = InProcessContext(exchange)
        task = exchange.handle(self._serve(exchange, context), self._context.copy())
        self._running[task] = exchange
        task.add_done_callback(partial(self._ended, context))

    def _ended(self, context: "InProcessContext", task: "asyncio.Task[None]") -> None:
        # Also needed for a task that was cancelled before its first step.
        exchange = self._running.pop(task)
        exchange.finish(CallStatus(grpc.StatusCode.CANCELLED, "the handler was cancelled"))
        context.run_done_callbacks()

    async def _serve(self, exchange: Exchange, context: "InProcessContext") -> None:
        try:
            handler = await self._handler(_CallDetails(exchange.method, exchange.metadata))
            if handler is None:
                exchange.finish(CallStatus(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"))
                return
            await context.answer(handler)
            context.finish()
        except grpc.aio.AbortError:
            pass
        except Exception as error:
            log.error("gRPC handler failed", method=exchange.method, exc_info=error)
            context.fail(error)

    async def _find(self, details: grpc.HandlerCallDetails) -> Any:
        if handler := self._methods.get(details.method):
            return handler
        found = (generic.service(details) for generic in self._generic)
        return next((handler for handler in found if handler), None)


class _CallDetails(grpc.HandlerCallDetails):
    def __init__(self, method: str, invocation_metadata: tuple[Metadatum, ...]) -> None:
        self.method, self.invocation_metadata = method, invocation_metadata


class InProcessContext(grpc.aio.ServicerContext[Any, Any]):
    """The context that a handler receives."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._deserialize: Callable[[bytes], Any] = bytes
        self._serialize: Callable[[Any], bytes] = bytes
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: tuple[tuple[str, str | bytes], ...] = ()
        self._callbacks: list[Callable[[Any], None]] = []

    async def answer(self, handler: Any) -> None:
        """Runs the handler, of any of the four kinds, and sends its responses. Raises what it raises."""
        self._deserialize = handler.request_deserializer or bytes
        self._serialize = handler.response_serializer or bytes
        request = _Requests(self) if handler.request_streaming else await self.read()
        if not handler.response_streaming:
            response = await (handler.unary_unary or handler.stream_unary)(request, self)
            if self._code in (None, grpc.StatusCode.OK):
                await self.write(response)
            return
        responses = (handler.unary_stream or handler.stream_stream)(request, self)
        if not hasattr(responses, "__aiter__"):
            await responses  # a handler that calls `write`
            return
        async with AsyncExitStack() as stack:
            if hasattr(responses, "aclose"):
                stack.push_async_callback(responses.aclose)
            async for response in responses:
                await self.write(response)

    async def read(self) -> Any:
        """The next request, or grpc.aio.EOF after the last. Raises UsageError if the call has ended, so that
        interrupted requests never look complete."""
        message = await self._exchange.requests.get()
        if message is not None:
            return self._deserialize(message)
        if self._exchange.status:
            raise grpc.aio.UsageError(FINISHED)
        return grpc.aio.EOF

    async def write(self, message: Any) -> None:
        """Waits for room and sends a response. Raises UsageError if the call has ended, and AbortError if the
        message is too large."""
        data = self._serialize(message)
        if status := self._exchange.too_large(data, "SERVER"):
            self._exchange.finish(status)
            raise grpc.aio.AbortError(status.details)
        self._exchange.begin(())
        if not await self._exchange.responses.put(data):
            raise grpc.aio.UsageError(FINISHED)

    async def send_initial_metadata(self, initial_metadata: Headers) -> None:
        if self._exchange.initial is not None:
            raise grpc.aio.UsageError("Send initial metadata failed: already sent")
        self._exchange.begin(checked(initial_metadata))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Headers = ()) -> Never:
        self._code, self._details = code, details or self._details
        self._trailing = tuple(trailing_metadata) or self._trailing
        self.finish()
        raise grpc.aio.AbortError("Locally aborted.")

    async def abort_with_status(self, status: grpc.Status) -> Never:
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def finish(self) -> None:
        """Ends the call with the status that was set, or with OK."""
        self._finish(self._code or grpc.StatusCode.OK, self._details)

    def fail(self, error: Exception) -> None:
        known = self._code not in (None, grpc.StatusCode.OK)
        code = self._code if known and self._code else grpc.StatusCode.UNKNOWN
        self._finish(code, f"Unexpected {type(error)}: {error}")

    def _finish(self, code: grpc.StatusCode, details: str) -> None:
        try:
            status = CallStatus(code, details, checked(self._trailing))
        except (grpc.aio.InternalError, TypeError):
            status = CallStatus(grpc.StatusCode.INTERNAL, "Invalid metadata")
        self._exchange.finish(status)

    def set_trailing_metadata(self, trailing_metadata: Headers) -> None:
        self._trailing = tuple(trailing_metadata)

    def trailing_metadata(self) -> Any:
        return self._trailing

    def invocation_metadata(self) -> Any:
        return self._exchange.metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> Any:
        return self._code

    def set_details(self, details: str) -> None:
        self._details = details

    def details(self) -> str:
        return self._details

    def set_compression(self, compression: object) -> None:
        """Does nothing, because messages stay in the process."""

    def disable_next_message_compression(self) -> None:
        """Does nothing, because messages stay in the process."""

    def peer(self) -> str:
        return PEER

    def peer_identities(self) -> None:
        return None

    def peer_identity_key(self) -> None:
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return {}

    def time_remaining(self) -> Any:
        """Seconds until the deadline, or None without one."""
        return self._exchange.time_remaining()

    def add_done_callback(self, callback: Any) -> None:
        """Calls back with this context when the handler has ended."""
        self._callbacks.append(callback)

    def run_done_callbacks(self) -> None:
        for callback in self._callbacks:
            self._exchange.loop.call_soon(callback, self)

    def done(self) -> bool:
        return self._exchange.status is not None

    def cancelled(self) -> bool:
        status = self._exchange.status
        return status is not None and status.code is grpc.StatusCode.CANCELLED


class _Requests:
    """The requests of a streaming call, for the handler. Unlike a generator, it need not be closed."""

    def __init__(self, context: InProcessContext) -> None:
        self._context = context

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if (request := await self._context.read()) is grpc.aio.EOF:
            raise StopAsyncIteration
        return request


def _unavailable(details: str) -> CallStatus:
    return CallStatus(grpc.StatusCode.UNAVAILABLE, details)
