"""The connection of `lares demo` to a running Lares: as a client, through a socket on this machine."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.client import open_client
from deploy.mesh_factory import client_socket
from lares.store.v1 import event_service_pb2 as events
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from mesh.config import Config, load_config
from mesh.problems import Unauthenticated, Unavailable
from mesh.rpc import GrpcServer, call
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Caller
from tests.support.contracts import add_every_service


async def verify(secret: str) -> Caller:
    if secret != "lares_admin":
        raise Unauthenticated("this key is not known", "BAD_API_KEY")
    return Caller.of_key("1", "admin")


@pytest.fixture
async def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Config]:
    """The configuration of a Lares that is running."""
    monkeypatch.chdir(tmp_path)
    config = load_config(home=tmp_path, grpc_listen="127.0.0.1:0")
    (tmp_path / "admin.key").write_text("lares_admin\n")
    server = GrpcServer(lambda door: CallInterceptor(door, verify))
    add_every_service(server, lambda _: None)
    await server.listen(client_socket(config.home))
    await server.start()
    yield config
    await server.stop(0)


async def test_the_admin_key_is_accepted(config: Config) -> None:
    async with open_client(config) as (channel, key):
        status = events_rpc.EventServiceStub(channel).GetStoreStatus
        await call(status, events.GetStoreStatusRequest(), headers=key)
        with pytest.raises(Unauthenticated):
            await call(status, events.GetStoreStatusRequest(), headers=())


async def test_without_a_running_lares_the_error_says_so(config: Config, tmp_path: Path) -> None:
    elsewhere = config.model_copy(update={"home": tmp_path / "elsewhere"})
    with pytest.raises(Unavailable, match=f"no Lares is running on {elsewhere.home}") as problem:
        async with open_client(elsewhere) as (channel, key):
            status = events_rpc.EventServiceStub(channel).GetStoreStatus
            await call(status, events.GetStoreStatusRequest(), headers=key)
    assert problem.value.reason == "NOT_RUNNING"
