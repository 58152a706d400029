"""GraphQL over WebSocket, in the graphql-transport-ws protocol.

https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md. Strawberry's own handler executes and encodes
every subscription for every socket. Here the engine shares encoded responses, and only the message around a
response is made for each socket.
"""

import asyncio
import json
from contextlib import aclosing, suppress
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from gateway.errors import format_exception
from gateway.graphql.engine import Engine
from gateway.graphql.json_text import encode_text, read_json
from gateway.graphql.request import GraphQLRequest
from gateway.http.authentication import Authenticator, api_key_of
from gateway.http.metrics import GatewayMetrics
from mesh.problems import Exhausted, Invalid, Problem
from mesh.security import Caller, caller

PROTOCOL = "graphql-transport-ws"
INIT_SECONDS = 10.0
MAX_OPERATIONS = 50
MAX_ID_CHARACTERS = 128
# Verified keys are cached for some seconds, too: a socket closes less than 5 s after its key was revoked.
RECHECK_SECONDS = 1.0
CLOSE_SECONDS = 1.0


class WebSocketEndpoint:
    """The ASGI application for WebSockets. Closes sockets whose key was revoked."""

    def __init__(self, engine: Engine, authenticator: Authenticator, metrics: GatewayMetrics) -> None:
        self._engine, self._authenticator, self._metrics = engine, authenticator, metrics
        self._open: set[GraphQLWebSocket] = set()
        metrics.sockets.set_function(lambda: len(self._open))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = GraphQLWebSocket(self._engine, self._authenticator, self._metrics, (scope, receive, send))
        self._open.add(socket)
        try:
            await socket.serve()
        finally:
            self._open.discard(socket)

    async def keep_rechecking(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            await self.recheck()

    async def recheck(self) -> None:
        """Closes the sockets whose caller is no longer authorized."""
        # One after the other: the first socket of each key asks the store, the others use the cached result.
        unauthorized = [socket for socket in list(self._open) if not await socket.is_authorized()]
        with suppress(TimeoutError):  # a client that does not read receives nothing
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*(socket.close(4403, "Forbidden") for socket in unauthorized))


class CloseConnection(Exception):
    """The socket is to be closed with this code and reason (at most 123 bytes)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class ConnectionLost(Exception):
    """The client has disconnected."""


class GraphQLWebSocket:
    """One WebSocket from its handshake to its end.

    A client that reads slowly delays nobody else: its subscriptions fall behind and read older changes from
    the store. If it reads nothing at all, the server's keepalive closes the socket."""

    def __init__(
        self,
        engine: Engine,
        authenticator: Authenticator,
        metrics: GatewayMetrics,
        connection: tuple[Scope, Receive, Send],
    ) -> None:
        self._engine, self._authenticator, self._metrics = engine, authenticator, metrics
        scope, self._asgi_receive, self._asgi_send = connection
        self._headers = Headers(scope=scope)
        self._offered = scope["subprotocols"]
        # None until the socket is authenticated.
        self._key: str | None = None
        self._caller: Caller | None = None
        self._operations: dict[str, asyncio.Task[None]] = {}

    async def serve(self) -> None:
        """Runs until either side closes the connection."""
        try:
            await self._open()
            while True:
                await self._handle(await self._receive())
        except CloseConnection as closing:
            await self.close(closing.code, closing.reason)
        except ConnectionLost:
            pass
        finally:
            self._cancel()
            await asyncio.gather(*self._operations.values(), return_exceptions=True)

    async def close(self, code: int, reason: str) -> None:
        """Cancels every operation and closes the socket."""
        self._cancel()
        with suppress(OSError, RuntimeError):  # the client has disconnected already
            await self._asgi_send({"type": "websocket.close", "code": code, "reason": reason})

    async def is_authorized(self) -> bool:
        """Whether the key is still valid and its caller may do exactly what it could do at first. True if the
        store is not available to check that."""
        if self._key is None:
            return True
        try:
            return await self._authenticator.authenticate(self._key, self._headers) == self._caller
        except Problem as problem:
            return problem.retryable

    async def _open(self) -> None:
        await self._asgi_receive()  # websocket.connect
        supported = PROTOCOL in self._offered
        await self._asgi_send({"type": "websocket.accept", "subprotocol": PROTOCOL if supported else None})
        if not supported:
            raise CloseConnection(4406, "Subprotocol not acceptable")
        try:
            async with asyncio.timeout(INIT_SECONDS):
                while (message := await self._receive())["type"] != "connection_init":
                    if message["type"] not in ("ping", "pong"):
                        raise CloseConnection(4401, "Unauthorized")
                    await self._handle(message)
        except TimeoutError:
            raise CloseConnection(4408, "Connection initialisation timeout") from None
        await self._authenticate(message.get("payload") or {})
        await self._send({"type": "connection_ack"})

    async def _authenticate(self, payload: object) -> None:
        """Takes the key from the first message, where browsers can put it, or else from the headers of the
        handshake."""
        if not isinstance(payload, dict):
            raise CloseConnection(4400, "Invalid connection_init payload")
        texts = {name.lower(): value for name, value in payload.items() if isinstance(value, str)}
        key = api_key_of(texts) or api_key_of(self._headers)
        try:
            self._caller = await self._authenticator.authenticate(key, self._headers)
        except Problem as problem:
            if problem.retryable:
                raise CloseConnection(1013, "Try again later") from None
            raise CloseConnection(4403, "Forbidden") from None
        caller.set(self._caller)
        self._key = key

    async def _receive(self) -> dict[str, Any]:
        event = await self._asgi_receive()
        if event["type"] == "websocket.disconnect":
            raise ConnectionLost
        text = event.get("text")
        try:
            message = read_json(text) if text is not None else None
        except Invalid:
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise CloseConnection(4400, "A message must be a JSON object with a type")
        return message

    async def _handle(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "subscribe":
                await self._subscribe(message)
            case "complete":
                task = self._operations.pop(self._id(message), None)
                if task:
                    task.cancel()
            case "ping":
                await self._send({"type": "pong"})
            case "pong":
                pass
            case "connection_init":
                raise CloseConnection(4429, "Too many initialisation requests")
            case _:
                raise CloseConnection(4400, "Unknown message type")

    def _id(self, message: dict[str, Any]) -> str:
        id = message.get("id")
        if not isinstance(id, str) or not 1 <= len(id) <= MAX_ID_CHARACTERS:
            raise CloseConnection(4400, f"A message must have an id of 1 to {MAX_ID_CHARACTERS} characters")
        return id

    async def _subscribe(self, message: dict[str, Any]) -> None:
        id = self._id(message)
        if id in self._operations:
            reason = f"Subscriber for {id[:32]} already exists"
            raise CloseConnection(4409, reason.encode()[:123].decode(errors="ignore"))
        try:
            request = GraphQLRequest.from_payload(message.get("payload"))
        except Invalid as problem:
            raise CloseConnection(4400, problem.message) from None
        if len(self._operations) >= MAX_OPERATIONS:
            limit = f"a socket may run at most {MAX_OPERATIONS} operations"
            errors = format_exception(Exhausted(limit, "TOO_MANY_OPERATIONS"))
            await self._send({"id": id, "type": "error", "payload": errors})
            return
        self._operations[id] = asyncio.create_task(self._run(id, request))

    async def _run(self, id: str, request: GraphQLRequest) -> None:
        try:
            last = await self._send_responses(id, request)
        except ConnectionLost:
            return
        except Exception as error:
            last = {"id": id, "type": "error", "payload": format_exception(error)}
        # Before the last message is sent: the client may use the id again as soon as it has that message.
        self._operations.pop(id, None)
        with suppress(ConnectionLost):
            await self._send(last)

    async def _send_responses(self, id: str, request: GraphQLRequest) -> dict[str, Any]:
        """Sends every response; returns the message that ends the operation."""
        prefix = f'{{"id":{json.dumps(id)},"type":"next","payload":'
        if self._engine.is_subscription(request):
            async with aclosing(self._engine.subscribe(request)) as responses:
                async for response in responses:
                    await self._send_text(prefix + response + "}")
                    self._metrics.deliveries += 1
        else:
            result = await self._engine.execute(request)
            if "data" not in result:
                return {"id": id, "type": "error", "payload": result["errors"]}
            await self._send_text(prefix + encode_text(result) + "}")
        return {"id": id, "type": "complete"}

    async def _send(self, message: dict[str, Any]) -> None:
        await self._send_text(encode_text(message))

    async def _send_text(self, text: str) -> None:
        """Waits while the client's buffers are full. Raises ConnectionLost."""
        try:
            await self._asgi_send({"type": "websocket.send", "text": text})
        except (OSError, RuntimeError):
            raise ConnectionLost from None

    def _cancel(self) -> None:
        for task in self._operations.values():
            task.cancel()
