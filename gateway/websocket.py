"""GraphQL over WebSocket: the protocol graphql-transport-ws, as one socket speaks it.

https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md. Strawberry's own handler runs and encodes
every subscription for every socket; here answers come ready from the engine, shared, and only the message
around them is made per socket.
"""

import asyncio
import json
from contextlib import aclosing, suppress
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from gateway.engine import Engine, encode
from gateway.faults import failure
from gateway.guard import Doorkeeper, secret_of
from gateway.metrics import Metrics
from gateway.operation import Operation, read_json
from mesh.problems import Exhausted, Invalid, Problem
from mesh.security import Caller, caller

PROTOCOL = "graphql-transport-ws"
INIT_SECONDS = 10.0
MOST_OPERATIONS = 50
LONGEST_ID = 128


class Closing(Exception):
    """The socket is to be closed, with this code and reason (at most 123 bytes)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Gone(Exception):
    """The other side has left."""


class Socket:
    """One WebSocket from its opening to its end. A slow reader holds up nobody but itself: its subscriptions
    fall back to the backlog, and when it reads nothing at all the server's keepalive ends it."""

    def __init__(
        self,
        engine: Engine,
        doorkeeper: Doorkeeper,
        metrics: Metrics,
        connection: tuple[Scope, Receive, Send],
    ) -> None:
        self._engine, self._doorkeeper, self._metrics = engine, doorkeeper, metrics
        scope, self._receive, self._transmit = connection
        self._headers = Headers(scope=scope)
        self._offered = scope["subprotocols"]
        # What let this socket in, and as whom; None until it is in.
        self._secret: str | None = None
        self._caller: Caller | None = None
        self._running: dict[str, asyncio.Task[None]] = {}

    async def serve(self) -> None:
        """Runs until either side ends the connection."""
        try:
            await self._open()
            while True:
                await self._handle(await self._message())
        except Closing as closing:
            await self.close(closing.code, closing.reason)
        except Gone:
            pass
        finally:
            self._cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def close(self, code: int, reason: str) -> None:
        """Ends everything that runs here, and says why."""
        self._cancel()
        with suppress(OSError, RuntimeError):  # where the other side was faster
            await self._transmit({"type": "websocket.close", "code": code, "reason": reason})

    async def is_welcome(self) -> bool:
        """Whether its key still opens the door, for a caller who may do what it could at first; a store that
        is away is no reason to doubt it."""
        if self._secret is None:
            return True
        try:
            return await self._doorkeeper.admit(self._secret, self._headers) == self._caller
        except Problem as problem:
            return problem.retryable

    async def _open(self) -> None:
        await self._receive()  # websocket.connect
        fits = PROTOCOL in self._offered
        await self._transmit({"type": "websocket.accept", "subprotocol": PROTOCOL if fits else None})
        if not fits:
            raise Closing(4406, "Subprotocol not acceptable")
        try:
            async with asyncio.timeout(INIT_SECONDS):
                while (message := await self._message())["type"] != "connection_init":
                    if message["type"] not in ("ping", "pong"):
                        raise Closing(4401, "Unauthorized")
                    await self._handle(message)
        except TimeoutError:
            raise Closing(4408, "Connection initialisation timeout") from None
        await self._admit(message.get("payload") or {})
        await self._send({"type": "connection_ack"})

    async def _admit(self, payload: object) -> None:
        """The key is in the first message (where browsers can put it), else in the handshake's headers."""
        if not isinstance(payload, dict):
            raise Closing(4400, "Invalid connection_init payload")
        shown = {name.lower(): value for name, value in payload.items() if isinstance(value, str)}
        secret = secret_of(shown) or secret_of(self._headers)
        try:
            self._caller = await self._doorkeeper.admit(secret, self._headers)
        except Problem as problem:
            if problem.retryable:
                raise Closing(1013, "Try again later") from None
            raise Closing(4403, "Forbidden") from None
        caller.set(self._caller)
        self._secret = secret

    async def _message(self) -> dict[str, Any]:
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            raise Gone
        text = event.get("text")
        try:
            message = read_json(text) if text is not None else None
        except Invalid:
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise Closing(4400, "A message must be a JSON object with a type")
        return message

    async def _handle(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "subscribe":
                await self._subscribe(message)
            case "complete":
                task = self._running.pop(self._id(message), None)
                if task:
                    task.cancel()
            case "ping":
                await self._send({"type": "pong"})
            case "pong":
                pass
            case "connection_init":
                raise Closing(4429, "Too many initialisation requests")
            case _:
                raise Closing(4400, "Unknown message type")

    def _id(self, message: dict[str, Any]) -> str:
        id = message.get("id")
        if not isinstance(id, str) or not 1 <= len(id) <= LONGEST_ID:
            raise Closing(4400, f"A message must have an id of 1 to {LONGEST_ID} characters")
        return id

    async def _subscribe(self, message: dict[str, Any]) -> None:
        id = self._id(message)
        if id in self._running:
            raise Closing(
                4409, f"Subscriber for {id[:32]} already exists".encode()[:123].decode(errors="ignore")
            )
        try:
            operation = Operation.of(message.get("payload"))
        except Invalid as problem:
            raise Closing(4400, problem.message) from None
        if len(self._running) >= MOST_OPERATIONS:
            full = Exhausted(f"a socket may run {MOST_OPERATIONS} operations", "TOO_MANY_OPERATIONS")
            await self._send({"id": id, "type": "error", "payload": failure(full)})
            return
        self._running[id] = asyncio.create_task(self._run(id, operation))

    async def _run(self, id: str, operation: Operation) -> None:
        try:
            last = await self._last(id, operation)
        except Gone:
            return
        except Exception as error:
            last = {"id": id, "type": "error", "payload": failure(error)}
        # Free before the last message is out: the client may use the id again at once.
        self._running.pop(id, None)
        with suppress(Gone):
            await self._send(last)

    async def _last(self, id: str, operation: Operation) -> dict[str, Any]:
        """Sends every answer; returns the message that ends the operation."""
        before = f'{{"id":{json.dumps(id)},"type":"next","payload":'
        if self._engine.is_subscription(operation):
            async with aclosing(self._engine.subscribe(operation)) as answers:
                async for answer in answers:
                    await self._put(before + answer + "}")
                    self._metrics.deliveries += 1
        else:
            only = await self._engine.answer(operation)
            if "data" not in only:
                return {"id": id, "type": "error", "payload": only["errors"]}
            await self._put(before + encode(only) + "}")
        return {"id": id, "type": "complete"}

    async def _send(self, message: dict[str, Any]) -> None:
        await self._put(encode(message))

    async def _put(self, text: str) -> None:
        """Waits while the other side's buffers are full."""
        try:
            await self._transmit({"type": "websocket.send", "text": text})
        except (OSError, RuntimeError):
            raise Gone from None

    def _cancel(self) -> None:
        for task in self._running.values():
            task.cancel()
