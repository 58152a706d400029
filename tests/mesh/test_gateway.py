"""The whole gateway on a real broker: changes on the feed's topic reach its sockets."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from gateway.service import open as open_service
from mesh.blobs import FileBlobs
from mesh.bus import Bus, open_bus
from mesh.config import Config
from mesh.key_verifier import KeyVerifier
from mesh.mesh import Mesh
from mesh.rpc import Channels, GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door
from mesh.topics import FEED
from tests.support.waiting import until
from tests.unit.gateway.client import connected
from tests.unit.gateway.fake_services import add_services
from tests.unit.gateway.fake_store import FakeStore, uuid

SECRET = "lares_the-key-of-the-tests"
CHANGES = (
    """subscription($after: String) { eventChanged(after: $after) { cursor event { id camera { name } } } }"""
)


@dataclass
class Opened:
    mesh: Mesh
    store: FakeStore
    bus: Bus

    @property
    def url(self) -> str:
        return self.mesh.addresses["gateway"]

    async def change(self, index: int) -> None:
        """Adds a change to the store and then publishes it on the topic, like the outbox."""
        await self.bus.publish(FEED, self.store.add_change(self.store.events[index % len(self.store.events)]))


@pytest.fixture
async def opened(kafka_url: str, tmp_path: Path) -> AsyncIterator[Opened]:
    store = FakeStore(secrets={SECRET: uuid("key")})
    for index in range(3):
        store.add_event(index)
    server = GrpcServer(CallInterceptor)
    add_services(store, server)
    address = await server.listen(f"unix:{tmp_path}/grpc.sock", door=Door.SIBLINGS)
    await server.start()
    channels = Channels({}, dict.fromkeys(("store", "ingest", "detect"), address))
    config = Config(home=tmp_path, gateway_listen="127.0.0.1:0")
    blobs = FileBlobs(tmp_path / "media")
    async with open_bus(kafka_url, client_id="gateway-test") as bus:
        await bus.create_topics()
        mesh = Mesh(config, bus, blobs, server, channels, KeyVerifier(channels.to("store")))
        mesh.readiness.started = True
        async with open_service(config, mesh):
            yield Opened(mesh, store, bus)
        assert not mesh.failure.done()
    await channels.close()
    await server.stop(0)
    blobs.close()


async def test_the_gateway_is_ready(opened: Opened) -> None:
    async with httpx.AsyncClient(base_url=opened.url, timeout=90) as client:
        assert (await client.get("/ready")).json() == {"ready": True, "checks": {"store": True}}


async def test_every_change_arrives_once_and_in_order(opened: Opened) -> None:
    for index in range(20):
        await opened.change(index)

    async def write() -> None:
        for index in range(20, 60):
            await opened.change(index)

    async def watch(after: int) -> list[int]:
        async with connected(opened.url, x_api_key=SECRET) as client:
            await client.init()
            await client.subscribe(CHANGES, after=str(after))
            return [int((await client.next())["data"]["eventChanged"]["cursor"]) for _ in range(60 - after)]

    *seen, _ = await asyncio.gather(*(watch(after) for after in range(0, 20, 5)), write())
    for after, cursors in zip(range(0, 20, 5), seen, strict=True):
        assert cursors == list(range(after + 1, 61))


async def test_without_a_cursor_only_new_changes_arrive(opened: Opened) -> None:
    await opened.change(0)
    async with connected(opened.url, x_api_key=SECRET) as client:
        await client.init()
        await client.subscribe(CHANGES)
        await until(lambda: opened.store.calls["ListChanges"])
        await client.send(type="ping")  # the answer comes after the subscription has begun
        assert await client.receive() == {"type": "pong"}
        await opened.change(1)
        change = (await client.next())["data"]["eventChanged"]
        assert (change["cursor"], change["event"]["id"]) == ("2", opened.store.events[1].id)


async def test_a_closed_socket_is_not_counted(opened: Opened) -> None:
    async with connected(opened.url, x_api_key=SECRET) as client:
        await client.init()
        await client.subscribe(CHANGES)
        await until(lambda: opened.store.calls["ListChanges"])
    async with httpx.AsyncClient(base_url=opened.url, headers={"x-api-key": SECRET}, timeout=90) as http:
        await until(lambda: opened.store.calls["VerifyKey"])
        assert "lares_sockets 0.0" in (await http.get("/metrics")).text.splitlines()
