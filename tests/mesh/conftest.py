"""Fixtures of the tests on real parts: a bus, and gRPC calls as a sibling makes them."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import grpc
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from mesh.bus import Bus, open_bus
from mesh.bus.address import KafkaAddress
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door
from tests.support.callers import AsItself


@pytest.fixture(scope="module")
async def bus(kafka_url: str) -> AsyncIterator[Bus]:
    """With all topics."""
    async with open_bus(kafka_url, client_id="test") as bus:
        await bus.create_topics()
        yield bus


@pytest.fixture(scope="module")
async def kafka_admin(kafka_url: str) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(**KafkaAddress.parse(kafka_url).options("admin"))
    await admin.start()
    yield admin
    await admin.close()


@pytest.fixture
def patient_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members that leave a group or give partitions away commit what is done, even on a slow machine."""
    for name in ("stream.CLOSE_SECONDS", "group_member.REVOKE_SECONDS", "group_member.COMMIT_SECONDS"):
        monkeypatch.setattr(f"mesh.bus.{name}", 90.0)


@pytest.fixture(scope="module")
def grpc_addr(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"unix:{tmp_path_factory.mktemp('grpc', numbered=True) / 'socket'}"


@pytest.fixture(scope="module")
def grpc_interceptors() -> list[CallInterceptor]:
    return [CallInterceptor(Door.SIBLINGS)]


@pytest.fixture(scope="module")
def grpc_channel(grpc_create_channel: Callable[[], AbstractContextManager[grpc.Channel]]) -> Iterator[Any]:
    """A channel whose calls are made as a service of Lares itself, unless they name an end caller."""
    with grpc_create_channel() as channel:
        yield grpc.intercept_channel(channel, AsItself())
