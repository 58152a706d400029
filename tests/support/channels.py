"""A service with all four kinds of calls, behind a socket or within this process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import BytesValue

from mesh.rpc.in_process_server import InProcessServer
from mesh.rpc.protocol import CHANNEL_OPTIONS, MESSAGE_BYTES, SERVER_OPTIONS

SERVICE = "test.Shapes"
KINDS = ("socket", "local")


def said(text: str | bytes = b"") -> BytesValue:
    return BytesValue(value=text.encode() if isinstance(text, str) else text)


@dataclass
class Shapes:
    """A servicer whose methods each test sets. `events` records what happened in the handlers."""

    unary: Callable[..., Any] | None = None
    responses: Callable[..., Any] | None = None
    requests: Callable[..., Any] | None = None
    both: Callable[..., Any] | None = None
    events: list[object] = field(default_factory=list)

    async def unary_unary(self, request: BytesValue, context: Any) -> BytesValue:
        assert self.unary
        answer: BytesValue = await self.unary(request, context)
        return answer

    async def unary_stream(self, request: BytesValue, context: Any) -> AsyncIterator[BytesValue]:
        assert self.responses
        async for response in self.responses(request, context):
            yield response

    async def stream_unary(self, requests: AsyncIterator[BytesValue], context: Any) -> BytesValue:
        assert self.requests
        answer: BytesValue = await self.requests(requests, context)
        return answer

    async def stream_stream(
        self, requests: AsyncIterator[BytesValue], context: Any
    ) -> AsyncIterator[BytesValue]:
        assert self.both
        async for response in self.both(requests, context):
            yield response

    async def written(self, request: BytesValue, context: Any) -> None:
        """A stream of the other style: the handler reads and writes by itself."""
        await context.write(said(b"1" + request.value))
        await context.write(said(b"2" + request.value))

    async def rest(self) -> None:
        """Until the handler is cancelled, which is noted."""
        self.events.append("rests")
        try:
            await asyncio.Event().wait()
        finally:
            self.events.append("ended")

    def handlers(self) -> grpc.GenericRpcHandler:
        read, write = BytesValue.FromString, BytesValue.SerializeToString
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "UnaryUnary": grpc.unary_unary_rpc_method_handler(self.unary_unary, read, write),
                "UnaryStream": grpc.unary_stream_rpc_method_handler(self.unary_stream, read, write),
                "StreamUnary": grpc.stream_unary_rpc_method_handler(self.stream_unary, read, write),
                "StreamStream": grpc.stream_stream_rpc_method_handler(self.stream_stream, read, write),
                "Written": grpc.unary_stream_rpc_method_handler(self.written, read, write),
            },
        )


@dataclass
class Wired:
    """The service, its server and a channel to it: the same calls, whichever kind it is."""

    kind: str
    server: grpc.aio.Server
    channel: grpc.aio.Channel
    shapes: Shapes

    @property
    def local(self) -> bool:
        return self.kind == "local"

    def _method(self, make: Callable[..., Any], name: str) -> Any:
        return make(f"/{SERVICE}/{name}", BytesValue.SerializeToString, BytesValue.FromString)

    def unary_unary(self, request: BytesValue, **options: Any) -> Any:
        return self._method(self.channel.unary_unary, "UnaryUnary")(request, **options)

    def unary_stream(self, request: BytesValue, **options: Any) -> Any:
        return self._method(self.channel.unary_stream, "UnaryStream")(request, **options)

    def stream_unary(self, requests: Any = None, **options: Any) -> Any:
        return self._method(self.channel.stream_unary, "StreamUnary")(requests, **options)

    def stream_stream(self, requests: Any = None, **options: Any) -> Any:
        return self._method(self.channel.stream_stream, "StreamStream")(requests, **options)

    def named(self, name: str, request: BytesValue, *, stream: bool = False) -> Any:
        return self._method(self.channel.unary_stream if stream else self.channel.unary_unary, name)(request)


@asynccontextmanager
async def wired(
    kind: str, folder: Path, interceptors: Sequence[grpc.aio.ServerInterceptor] = (), *, start: bool = True
) -> AsyncIterator[Wired]:
    """Not started where `start` is False; nobody listens on the socket before `begin`."""
    shapes = Shapes()
    server: grpc.aio.Server
    if kind == "local":
        server = InProcessServer(interceptors, max_message_bytes=MESSAGE_BYTES)
        channel: grpc.aio.Channel = server.channel()
    else:
        server = grpc.aio.server(interceptors=interceptors, options=SERVER_OPTIONS)
        channel = grpc.aio.insecure_channel(f"unix:{folder}/s", options=CHANNEL_OPTIONS)
    server.add_generic_rpc_handlers((shapes.handlers(),))
    made = Wired(kind, server, channel, shapes)
    if start:
        await begin(made, folder)
    try:
        yield made
    finally:
        await channel.close()
        await server.stop(None)


async def begin(made: Wired, folder: Path) -> None:
    if not made.local:
        made.server.add_insecure_port(f"unix:{folder}/s")
    await made.server.start()


async def failed(call: Any) -> grpc.aio.AioRpcError:
    """The error that awaiting or reading the call raises."""
    try:
        if hasattr(call, "__await__"):
            await call
        else:
            async for _ in call:
                pass
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call did not fail")


async def values(call: Any) -> list[bytes]:
    return [response.value async for response in call]
