"""`lares keys` when Lares is not running or cannot respond."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.camera_accounts import print_ftp_account
from deploy.cli import parser
from deploy.embedded.home import private_folder
from deploy.keys import create, print_all
from deploy.mesh_factory import operator_socket
from lares.store.v1 import key_service_pb2 as keys
from lares.store.v1 import key_service_pb2_grpc as keys_rpc
from mesh.config import Config, load_config
from mesh.permissions import UPLOAD
from mesh.problems import Invalid, Unavailable
from mesh.rpc import GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door


class FailingKeys(keys_rpc.KeyServiceServicer):
    """The key service of a Lares whose database is not available."""

    async def ListKeys(self, request: keys.ListKeysRequest, context: object) -> keys.ListKeysResponse:
        raise Unavailable("the database cannot be reached: gone", "DATABASE_UNAVAILABLE")


class KeysOfOne(keys_rpc.KeyServiceServicer):
    """Those of a Lares that has one key, the last that was created."""

    created = keys.Key()

    async def CreateKey(self, request: keys.CreateKeyRequest, context: object) -> keys.CreateKeyResponse:
        self.created = keys.Key(
            id="1", name=request.name, permissions=request.permissions, camera_id=request.camera_id
        )
        return keys.CreateKeyResponse(key=self.created, secret="lares_secret")

    async def ListKeys(self, request: keys.ListKeysRequest, context: object) -> keys.ListKeysResponse:
        return keys.ListKeysResponse(keys=[self.created])


class HostileKeys(keys_rpc.KeyServiceServicer):
    """Those of a Lares that an earlier version has given any name."""

    async def ListKeys(self, request: keys.ListKeysRequest, context: object) -> keys.ListKeysResponse:
        return keys.ListKeysResponse(keys=[keys.Key(id="1", name="a\x1b[2J\x07\nb")])


@pytest.fixture
def config(tmp_path: Path) -> Config:
    private_folder(tmp_path / "home", "run")
    return load_config(home=tmp_path / "home")


@pytest.fixture
async def failing(config: Config) -> AsyncIterator[None]:
    async with served(config, FailingKeys()):  # type: ignore[abstract]
        yield


@asynccontextmanager
async def served(config: Config, servicer: keys_rpc.KeyServiceServicer) -> AsyncIterator[None]:
    server = GrpcServer(CallInterceptor)
    server.add(
        keys_rpc.add_KeyServiceServicer_to_server, servicer, "lares.store.v1.KeyService", operator=True
    )
    await server.listen(operator_socket(config.home), door=Door.OPERATOR)
    await server.start()
    yield
    await server.stop(0)


async def test_a_listed_name_is_one_line_that_no_terminal_obeys(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(config, HostileKeys()):  # type: ignore[abstract]
        await print_all(config)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(r"a\x1b[2J\x07\nb")


@pytest.mark.parametrize("given", ["REPORT_PRESENCE", "report-presence"])
async def test_a_key_with_some_permissions_is_listed_with_them(
    config: Config, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    options = parser().parse_args(["keys", "create", "phone", "--permission", given, "--permission", "READ"])
    async with served(config, KeysOfOne()):  # type: ignore[abstract]
        assert await create(config, options.name, options.permissions) == "lares_secret"
        await print_all(config)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("phone  [READ, REPORT_PRESENCE]")


async def test_the_key_of_a_camera_is_listed_with_it(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(config, KeysOfOne()):  # type: ignore[abstract]
        await create(config, "the porch's", [UPLOAD], "porch")
        await print_all(config)
    assert capsys.readouterr().out.rstrip().endswith("the porch's  [UPLOAD for porch]")


@pytest.mark.parametrize(
    ("listen", "passive", "server"),
    [
        ("", "", "none yet: set LARES_FTP_LISTEN"),
        ("127.0.0.1:2121", "", "127.0.0.1"),
        ("0.0.0.0:2121", "192.0.2.7", "192.0.2.7"),
    ],
)
async def test_an_ftp_account_is_printed_as_cameras_ask_for_it(
    config: Config, capsys: pytest.CaptureFixture[str], listen: str, passive: str, server: str
) -> None:
    config = config.model_copy(update={"ftp_listen": listen, "ftp_passive_address": passive})
    keys_of_one = KeysOfOne()  # type: ignore[abstract]
    async with served(config, keys_of_one):
        await print_ftp_account(config, "porch")
    assert (keys_of_one.created.camera_id, list(keys_of_one.created.permissions)) == ("porch", [UPLOAD])
    printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[:-1])
    assert (printed["User"], printed["Password"]) == ("porch", "lares_secret")
    assert printed["Server"] == server
    assert printed.get("Port") == ("2121" if listen else None)


@pytest.mark.parametrize("given", ["SIBLING", "UNSPECIFIED", "everything", ""])
def test_there_are_no_other_permissions(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["keys", "create", "phone", "--permission", given])
    assert "REPORT_PRESENCE" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "\udcff", "a\u2028b"])
async def test_a_name_with_control_characters_is_refused(config: Config, name: str) -> None:
    with pytest.raises(Invalid, match="control characters") as refused:
        await create(config, name, [])
    assert refused.value.reason == "BAD_KEY_NAME"


async def test_without_a_running_lares_the_error_says_so(config: Config) -> None:
    with pytest.raises(Unavailable, match=f"no Lares is running on {config.home}") as problem:
        await print_all(config)
    assert problem.value.reason == "NOT_RUNNING"


async def test_an_error_of_lares_is_reported(config: Config, failing: None) -> None:
    with pytest.raises(Unavailable, match="the database cannot be reached: gone") as problem:
        await print_all(config)
    assert problem.value.reason == "DATABASE_UNAVAILABLE"
    assert "no Lares is running" not in problem.value.message
