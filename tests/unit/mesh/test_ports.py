"""Ports: taken, leaving, free."""

import asyncio
import socket

import pytest

from mesh import ports
from mesh.ports import free_port, port_is_free, reachable_host, wait_until_free
from mesh.problems import Conflict, Invalid
from tests.support.waiting import until


async def test_a_taken_port_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "TAKEN_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict) as caught:
            await wait_until_free("127.0.0.1", port)
    assert caught.value.reason == "PORT_TAKEN"
    assert caught.value.metadata == {"host": "127.0.0.1", "port": str(port)}
    assert str(port) in caught.value.message


async def test_a_port_that_becomes_free_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[bool] = []

    def recorded(host: str, port: int) -> bool:
        checks.append(port_is_free(host, port))
        return checks[-1]

    monkeypatch.setattr(ports, "port_is_free", recorded)
    taken = socket.create_server(("127.0.0.1", 0))
    waiting = asyncio.create_task(wait_until_free("127.0.0.1", taken.getsockname()[1]))
    await until(lambda: checks == [False, False])
    assert not waiting.done()
    taken.close()
    await waiting


def test_a_free_port_is_free() -> None:
    assert port_is_free("127.0.0.1", free_port("127.0.0.1"))


def test_a_host_that_is_not_ours_is_a_clear_error() -> None:
    with pytest.raises(Invalid) as caught:
        port_is_free("203.0.113.7", 9)
    assert caught.value.reason == "BAD_ADDRESS"


def test_clients_come_back_by_an_address_that_they_reach() -> None:
    assert reachable_host("127.0.0.1") == "127.0.0.1"
    assert reachable_host("::1") == "[::1]"
    assert reachable_host("kitchen.lan") == "kitchen.lan"
    assert reachable_host("0.0.0.0", near=True) == "127.0.0.1"
    assert reachable_host("0.0.0.0") != "0.0.0.0"
