"""`lares keys` when Lares is not running or cannot respond."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.embedded.home import private_folder
from deploy.keys import print_all
from deploy.mesh_factory import operator_socket
from lares.store.v1 import key_service_pb2 as keys
from lares.store.v1 import key_service_pb2_grpc as keys_rpc
from mesh.config import Config, load_config
from mesh.problems import Unavailable
from mesh.rpc import GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door


class FailingKeys(keys_rpc.KeyServiceServicer):
    """The key service of a Lares whose database is not available."""

    async def ListKeys(self, request: keys.ListKeysRequest, context: object) -> keys.ListKeysResponse:
        raise Unavailable("the database cannot be reached: gone", "DATABASE_UNAVAILABLE")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    private_folder(tmp_path / "home", "run")
    return load_config(home=tmp_path / "home")


@pytest.fixture
async def failing(config: Config) -> AsyncIterator[None]:
    server, servicer = GrpcServer(CallInterceptor), FailingKeys()  # type: ignore[abstract]
    server.add(
        keys_rpc.add_KeyServiceServicer_to_server, servicer, "lares.store.v1.KeyService", operator=True
    )
    await server.listen(operator_socket(config.home), door=Door.OPERATOR)
    await server.start()
    yield
    await server.stop(0)


async def test_without_a_running_lares_the_error_says_so(config: Config) -> None:
    with pytest.raises(Unavailable, match=f"no Lares is running on {config.home}") as problem:
        await print_all(config)
    assert problem.value.reason == "NOT_RUNNING"


async def test_an_error_of_lares_is_reported(config: Config, failing: None) -> None:
    with pytest.raises(Unavailable, match="the database cannot be reached: gone") as problem:
        await print_all(config)
    assert problem.value.reason == "DATABASE_UNAVAILABLE"
    assert "no Lares is running" not in problem.value.message
