"""Clients of a cluster's gateways, who go on at the next gateway as clients of a real one do."""

import asyncio
import json
from typing import Any

import httpx
import websockets

from tests.support.cluster import Cluster
from tests.support.lares import Refused

CHANGES = "subscription($after: String) { eventChanged(after: $after) { cursor } }"
QUERY = """{ events(first: 5) { edges { node { id media { id } assessment { score } } } } people { id }
  mode { mode } rejections(first: 1) { edges { node { id } } } }"""
HEAD = "{ status { store { sequence } } }"
# On these codes clients of graphql-ws connect again.
RESUMABLE = (1001, 1006, 1012, 1013)


class Client:
    """Queries the gateways in turn. Its policy covers what says that a gateway is not there: a refused or a
    lost connection. Then it asks the next one."""

    def __init__(self, cluster: Cluster) -> None:
        self._gateways = cluster.gateways
        self.answered, self.repeated = 0, 0
        self.errors: list[str] = []

    async def run(self) -> None:
        turn = 0
        while True:
            for _ in range(20):
                turn += 1
                try:
                    await self._gateways[turn % len(self._gateways)].graphql(QUERY)
                    self.answered += 1
                    break
                except httpx.TransportError:
                    self.repeated += 1
                    await asyncio.sleep(0.05)
                except (Refused, ValueError) as error:
                    self.errors.append(str(error))
                    break
            else:
                self.errors.append("no gateway answers")
            await asyncio.sleep(0.02)


class Subscriber:
    """Reads the feed from its beginning, and goes on at the next gateway after its last cursor when a gateway
    closes the socket in a way on which clients connect again."""

    def __init__(self, cluster: Cluster) -> None:
        self._gateways, self._key = cluster.gateways, cluster.key
        self.seen: list[int] = []
        self.codes: list[int] = []
        self.errors: list[str] = []

    async def run(self, turn: int) -> None:
        while True:
            gateway = self._gateways[turn % len(self._gateways)]
            turn += 1
            try:
                async with websockets.connect(
                    f"{gateway.url('ws')}/graphql",
                    subprotocols=[websockets.Subprotocol("graphql-transport-ws")],
                    ssl=gateway.tls,
                ) as socket:
                    await self._follow(socket)
            except websockets.ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else 1006
                self.codes.append(code)
                if code not in RESUMABLE:
                    self.errors.append(f"closed with {code}")
            except (OSError, websockets.InvalidHandshake, EOFError):
                await asyncio.sleep(0.1)

    async def _follow(self, socket: Any) -> None:
        async def send(**message: Any) -> None:
            await socket.send(json.dumps(message))

        await send(type="connection_init", payload={"x-api-key": self._key})
        async for text in socket:
            message = json.loads(text)
            match message["type"]:
                case "connection_ack":
                    after = str(self.seen[-1] if self.seen else 0)
                    payload = {"query": CHANGES, "variables": {"after": after}}
                    await send(id="1", type="subscribe", payload=payload)
                case "next":
                    self.seen.append(int(message["payload"]["data"]["eventChanged"]["cursor"]))
                case "error" | "complete":
                    self.errors.append(text)
                    return


async def all_changes(cluster: Cluster, *subscribers: Subscriber) -> list[int]:
    """The changes that a complete feed has, in order: waits until each subscriber has seen the last one."""
    head = int((await cluster.gateways[0].graphql(HEAD))["status"]["store"]["sequence"])
    async with asyncio.timeout(60):
        while any(not subscriber.seen or subscriber.seen[-1] < head for subscriber in subscribers):
            await asyncio.sleep(0.1)
    return list(range(1, head + 1))
