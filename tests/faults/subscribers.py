"""Subscribers of the feed: each must see every change exactly once, whatever it is connected to."""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from typing import Any

import grpc
import websockets

from lares.store.v1 import event_service_pb2 as events
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from tests.faults.cluster import Cluster

PAUSE_SECONDS = 0.2
# A connection over which nothing comes for so long is given up: its process may be paused.
QUIET_SECONDS = 8.0
# How a connection ends, whichever way it is cut.
LOST = (grpc.aio.AioRpcError, OSError, TimeoutError, websockets.WebSocketException)
_CHANGES = "subscription($after: String) { eventChanged(after: $after) { cursor } }"


class Subscriber:
    """Follows the feed from its start, and connects again with the last sequence that it has, each time to
    the next replica. While it `rests` it reads nothing."""

    name = "gRPC"

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.seen: list[int] = []
        self.connections = 0
        self.awake = asyncio.Event()
        self.awake.set()
        self._task = asyncio.create_task(self._follow())

    @property
    def last(self) -> int:
        return self.seen[-1] if self.seen else 0

    async def caught_up(self, head: int, seconds: float) -> bool:
        """Whether it has everything up to `head` within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while self.last < head:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            return False
        return True

    def problems(self, head: int) -> list[str]:
        """What it has missed, or seen twice or in another order."""
        counts = Counter(self.seen)
        missed = [number for number in range(1, head + 1) if not counts[number]]
        twice = [number for number, times in counts.items() if times > 1]
        wrong = []
        if missed:
            wrong.append(f"a {self.name} subscriber missed {len(missed)} changes of {head}: {missed[:10]}")
        if twice:
            wrong.append(f"a {self.name} subscriber saw {len(twice)} changes twice: {twice[:10]}")
        if not (missed or twice) and self.seen != sorted(self.seen):
            wrong.append(f"a {self.name} subscriber saw changes out of order")
        return wrong

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            with suppress(*LOST):
                await self._connect()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _connect(self) -> None:
        metadata = (("x-api-key", self._cluster.key),)
        async with self._cluster.grpc_channel() as channel:
            request = events.WatchEventsRequest(after=self.last)
            call = events_rpc.EventServiceStub(channel).WatchEvents(request, metadata=metadata)
            self.connections += 1
            while True:
                await self.awake.wait()
                async with asyncio.timeout(QUIET_SECONDS):
                    response = await call.read()
                if not isinstance(response, events.WatchEventsResponse):
                    return  # the end of the stream
                if response.HasField("change"):
                    self.seen.append(response.change.sequence)


class GatewaySubscriber(Subscriber):
    """The same by GraphQL over a WebSocket."""

    name = "GraphQL"

    async def _connect(self) -> None:
        service = self._cluster.one_of("gateway")
        url = f"wss://{self._cluster.address_of(service.name, 'gateway')}/graphql"
        protocol = websockets.Subprotocol("graphql-transport-ws")
        key = self._cluster.key
        async with websockets.connect(
            url, subprotocols=[protocol], ssl=self._cluster.tls, open_timeout=QUIET_SECONDS, close_timeout=1
        ) as socket:
            await socket.send(json.dumps({"type": "connection_init", "payload": {"x-api-key": key}}))
            variables = {"after": str(self.last)}
            subscribe = {"query": _CHANGES, "variables": variables}
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": subscribe}))
            self.connections += 1
            while True:
                await self.awake.wait()
                message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), QUIET_SECONDS))
                if message["type"] == "next" and (data := message["payload"].get("data")):
                    self.seen.append(int(data["eventChanged"]["cursor"]))
                elif message["type"] in ("error", "complete"):
                    return
                elif message["type"] == "ping":
                    await socket.send(json.dumps({"type": "pong"}))
