"""A graphql-transport-ws client on a real socket. Every wait has a deadline."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect

SECONDS = 90.0


class Client:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def receive(self) -> Any:
        async with asyncio.timeout(SECONDS):
            return json.loads(await self.socket.recv())

    async def init(self, **payload: Any) -> None:
        await self.send(type="connection_init", payload=payload)
        assert await self.receive() == {"type": "connection_ack"}

    async def subscribe(self, query: str, id: str = "1", **variables: Any) -> None:
        await self.send(id=id, type="subscribe", payload={"query": query, "variables": variables})

    async def next(self, id: str = "1") -> Any:
        """Returns the payload of the next response."""
        message = await self.receive()
        assert (message["type"], message["id"]) == ("next", id), message
        return message["payload"]

    async def closed(self) -> tuple[int, str]:
        """Waits until the server closes the socket; returns the code and the reason."""
        with suppress(websockets.ConnectionClosed):
            async with asyncio.timeout(SECONDS):
                while True:
                    await self.socket.recv()
        code, reason = self.socket.close_code, self.socket.close_reason
        assert code is not None
        return code, reason or ""


@asynccontextmanager
async def connected(
    url: str, protocol: str | None = "graphql-transport-ws", **headers: str
) -> AsyncIterator[Client]:
    protocols = [websockets.Subprotocol(protocol)] if protocol else None
    address = url.replace("http", "ws", 1) + "/graphql"
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with connect(address, subprotocols=protocols, additional_headers=names, compression=None) as socket:
        yield Client(socket)
