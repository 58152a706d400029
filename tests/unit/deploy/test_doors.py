"""The listeners that `open_mesh` opens, and what a child that decodes untrusted files can do with them."""

import asyncio
import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from deploy import mesh_factory
from deploy.keys import print_all
from deploy.mesh_factory import client_socket, open_mesh, operator_socket
from lares.store.internal.v1.key_check_service_pb2 import VerifyKeyRequest
from lares.store.internal.v1.key_check_service_pb2_grpc import KeyCheckServiceStub
from mesh.config import Config, load_config
from mesh.mesh import Mesh
from mesh.problems import Denied, Unauthenticated
from mesh.processes.sandbox import Sandbox
from mesh.rpc import call
from mesh.rpc.in_process_channel import InProcessChannel
from mesh.security import Caller, as_itself
from tests.support import sandboxed
from tests.support.callers import calling_as
from tests.support.certificates import write_certificate
from tests.support.contracts import add_every_service

TARGETS = "tests.support.sandboxed"
WRITE = f"import sys; from {TARGETS} import write_memory; write_memory(*map(int, sys.argv[1:]))"


class FakeBus:
    async def create_topics(self, *_: object) -> None:
        return None

    async def check(self) -> None:
        return None


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(home=tmp_path / "home", grpc_listen="127.0.0.1:0", bus_url="kafka://nowhere:9092")


@pytest.fixture
def fake_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def bus(*_: object, **__: object) -> AsyncIterator[Any]:
        yield FakeBus()

    monkeypatch.setattr(mesh_factory, "open_bus", bus)


@pytest.fixture
async def mesh(config: Config, fake_bus: None) -> AsyncIterator[Mesh]:
    """All targets in this process, with services that return empty messages."""
    targets = ["detect", "store", "reason", "ingest", "gateway"]
    async with open_mesh(config, targets, database=False) as mesh:
        add_every_service(mesh.server, lambda _: None)
        await mesh.server.start()
        yield mesh
        await mesh.server.stop(0)


async def test_a_child_cannot_connect_to_any_listener(config: Config, mesh: Mesh) -> None:
    host, _, port = mesh.addresses["grpc"].rpartition(":")
    addresses: list[list[object]] = [[host, int(port)]]
    for address in (client_socket(config.home), operator_socket(config.home)):
        addresses.append([address.removeprefix("unix:")])
    # The same attempts succeed outside a sandbox.
    outside = await asyncio.to_thread(sandboxed.reach, addresses, 0)
    connections = {name for name in outside if name.startswith(("connect [", "a pair", "socket"))}
    assert {outside[name] for name in connections} == {"done"}
    assert len(connections) == 3 * len(addresses) + 2
    async with Sandbox(f"{TARGETS}:reach") as sandbox:
        inside = await sandbox.run(addresses, os.getpid())
    assert inside.keys() == outside.keys()
    assert set(inside.values()) == {"EPERM"}


async def test_a_thread_of_the_child_from_before_the_first_call_cannot_connect(mesh: Mesh) -> None:
    async with Sandbox(f"{TARGETS}:early_thread", setup=[]) as sandbox:
        assert await sandbox.run() == "EPERM"


@pytest.mark.parametrize("target", ["write_memory", "write_memory_in_early_thread"])
async def test_a_child_cannot_write_its_parents_memory(target: str) -> None:
    here = ctypes.create_string_buffer(b"!")
    setup: list[object] | None = None if target == "write_memory" else []
    async with Sandbox(f"{TARGETS}:{target}", setup=setup) as sandbox:
        inside = await sandbox.run(os.getpid(), ctypes.addressof(here))
    assert (inside, here.value) == ("EACCES", b"!")
    # The same succeeds outside a sandbox.
    outside = [sys.executable, "-c", WRITE, str(os.getpid()), str(ctypes.addressof(here))]
    subprocess.run(outside, check=True)
    assert here.value == b"?"


async def test_the_services_of_one_process_need_no_socket(config: Config, mesh: Mesh) -> None:
    bound = {path.name for path in (config.home / "run").iterdir() if path.is_socket()}
    assert bound == {"clients.sock", "operator.sock"}
    for service in ("ingest", "detect", "store", "reason"):
        assert isinstance(mesh.channel(service), InProcessChannel)
    stub = KeyCheckServiceStub(mesh.channel("store"))
    request = VerifyKeyRequest(sha256="0" * 64)
    with as_itself():
        await call(stub.VerifyKey, request)
    with calling_as(Caller.of_key("1", "Ann")), pytest.raises(Denied) as denied:
        await call(stub.VerifyKey, request)
    assert denied.value.reason == "SIBLINGS_ONLY"
    with pytest.raises(Unauthenticated) as unclear:
        await call(stub.VerifyKey, request, headers=())
    assert unclear.value.reason == "CALLER_UNCLEAR"


async def test_a_child_does_not_inherit_sockets(mesh: Mesh) -> None:
    channel = grpc.aio.insecure_channel(mesh.addresses["grpc"])
    await channel.channel_ready()
    host, _, port = mesh.addresses["grpc"].rpartition(":")
    inheritable = socket.create_connection((host, int(port)))
    inheritable.set_inheritable(True)
    own = {link for link in sandboxed.descriptors() if link.startswith("socket:")}
    assert len(own) >= 4  # the listeners, and both ends of the connection
    async with Sandbox(f"{TARGETS}:descriptors") as sandbox:
        inherited = await sandbox.run()
    await channel.close()
    inheritable.close()
    assert own & set(inherited) == set()


async def test_lares_keys_uses_the_operator_socket(
    config: Config, mesh: Mesh, capsys: pytest.CaptureFixture[str]
) -> None:
    await print_all(config)
    assert capsys.readouterr().out == ""  # the response has no keys


async def test_a_process_without_the_store_has_no_operator_socket(
    tmp_path: Path, fake_bus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(
        home=tmp_path / "home",
        grpc_listen="127.0.0.1:0",
        bus_url="kafka://nowhere:9092",
        peers={"store": "127.0.0.1:1"},
        **write_certificate(tmp_path),
    )
    async with open_mesh(config, ["detect"], database=False):
        assert not Path(operator_socket(config.home).removeprefix("unix:")).exists()
