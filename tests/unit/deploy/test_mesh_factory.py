"""The addresses that a process may listen on, its certificates, and its sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from deploy import mesh_factory
from deploy.embedded.home import restore_marker
from deploy.mesh_factory import (
    guard_listening,
    guard_siblings,
    is_loopback,
    open_mesh,
    operator_socket,
)
from lares.store.v1 import key_service_pb2 as keys
from lares.store.v1 import key_service_pb2_grpc as keys_rpc
from mesh.config import load_config
from mesh.mesh import Mesh
from mesh.problems import Conflict, Invalid
from mesh.rpc import call
from mesh.rpc.in_process_channel import InProcessChannel
from mesh.security import as_itself
from tests.support.certificates import shown_by, write_certificate
from tests.support.lares import free_ports
from tests.support.rpc_harness import FakeKeyServicer


@pytest.fixture(autouse=True)
def _empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_loopback_is_allowed() -> None:
    guard_listening(load_config())


@pytest.mark.parametrize(
    "setting", ["gateway_listen", "grpc_listen", "kafka_listen", "push_listen", "metrics_listen"]
)
def test_other_addresses_need_tls_or_allow_plaintext(setting: str) -> None:
    with pytest.raises(Invalid, match=f"LARES_{setting.upper()}"):
        guard_listening(load_config(**{setting: "0.0.0.0:7777"}))
    guard_listening(load_config(**{setting: "0.0.0.0:7777", "allow_plaintext": True}))


def test_tls_allows_http_and_grpc_but_not_kafka_which_has_no_tls(tmp_path: Path) -> None:
    tls = write_certificate(tmp_path)
    guard_listening(
        load_config(gateway_listen="0.0.0.0:1", grpc_listen="[::]:2", push_listen="[::]:3", **tls)
    )
    with pytest.raises(Invalid, match="LARES_KAFKA_LISTEN"):
        guard_listening(load_config(kafka_listen="0.0.0.0:3", **tls))
    guard_listening(load_config(gateway_listen="0.0.0.0:1", tls_mode="self_signed"))
    # Plain all the same; with a certificate the process is meant to be reached.
    guard_listening(load_config(metrics_listen="0.0.0.0:1", **tls))


@pytest.mark.parametrize("address", ["127.0.0.1:2121", "0.0.0.0:2121"])
def test_ftp_needs_tls_or_the_word_for_it(tmp_path: Path, address: str) -> None:
    with pytest.raises(Invalid, match=r"LARES_FTP_LISTEN .*LARES_FTP_PLAINTEXT") as refused:
        guard_listening(load_config(ftp_listen=address, allow_plaintext=True))
    assert refused.value.reason == "BAD_SETTING"
    guard_listening(load_config(ftp_listen=address, ftp_plaintext=True))
    guard_listening(load_config(ftp_listen=address, **write_certificate(tmp_path)))


def test_ftp_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_factory, "find_spec", lambda _: None)
    with pytest.raises(Invalid, match=r"lares\[ftp\]") as refused:
        guard_listening(load_config(ftp_listen="127.0.0.1:1", ftp_plaintext=True))
    assert refused.value.reason == "BAD_SETTING"
    guard_listening(load_config())


@pytest.mark.parametrize("settings", [{"mesh_listen": "127.0.0.1:1"}, {"peers": {"store": "127.0.0.1:1"}}])
def test_siblings_in_other_processes_need_mutual_tls_or_the_word_for_it(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    """Also on loopback, and even if clients may do without: who reaches the port is a sibling."""
    files = write_certificate(tmp_path)
    without_ca = {name: files[name] for name in ("tls_cert", "tls_key")}
    for refused in ({}, {"allow_plaintext": True}, without_ca):
        with pytest.raises(Invalid, match=r"LARES_TLS_CA.*LARES_MESH_PLAINTEXT"):
            guard_siblings(load_config(**settings, **refused))
    for allowed in (files, {"tls_mode": "self_signed"}, {"mesh_plaintext": True}):
        guard_siblings(load_config(**settings, **allowed))
    guard_siblings(load_config())


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("nas.lan:1", False),
    ],
)
def test_loopback_addresses_are_recognised(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


def test_a_home_with_a_long_path_gets_a_short_socket_path(tmp_path: Path) -> None:
    home = tmp_path / ("deep" * 30)
    home.mkdir()
    assert len(operator_socket(home).removeprefix("unix:")) <= 107
    assert operator_socket(home) == operator_socket(home)
    assert operator_socket(home) != operator_socket(tmp_path)


@pytest.mark.parametrize("setting", ["grpc_listen", "mesh_listen"])
async def test_an_unknown_host_is_reported_with_its_setting(tmp_path: Path, setting: str) -> None:
    addresses = {"grpc_listen": "127.0.0.1:0", setting: "nowhere.invalid:50051"}
    config = load_config(
        home=tmp_path / "home", allow_plaintext=True, **addresses, **write_certificate(tmp_path)
    )
    with pytest.raises(Invalid, match=f"LARES_{setting.upper()}: cannot listen on nowhere") as refused:
        async with open_mesh(config, ["store"], database=False):
            pass
    assert refused.value.reason == "BAD_ADDRESS"


class FakeBus:
    async def create_topics(self, *_: object) -> None:
        return None

    async def check(self) -> None:
        return None


@pytest.fixture
def without_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def kafka(*_: object) -> AsyncIterator[str]:
        yield "kafka://lares:secret@127.0.0.1:41234"

    @asynccontextmanager
    async def bus(*_: object, **__: object) -> AsyncIterator[FakeBus]:
        yield FakeBus()

    monkeypatch.setattr(mesh_factory, "open_kafka", kafka)
    monkeypatch.setattr(mesh_factory, "open_bus", bus)


@pytest.mark.usefixtures("without_kafka")
async def test_port_zero_is_reported_as_the_actual_port(tmp_path: Path) -> None:
    config = load_config(
        home=tmp_path / "home", kafka_listen="0.0.0.0:0", grpc_listen="127.0.0.1:0", allow_plaintext=True
    )
    async with open_mesh(config, ["store"], database=False) as mesh:
        assert mesh.addresses["kafka"] == "0.0.0.0:41234"
        assert mesh.addresses["grpc"].rpartition(":")[2] != "0"


@pytest.mark.usefixtures("without_kafka")
@pytest.mark.parametrize("targets", [["store"], ["gateway"]])
async def test_a_home_whose_restore_was_interrupted_is_not_opened(tmp_path: Path, targets: list[str]) -> None:
    restore_marker(tmp_path).touch()
    config = load_config(home=tmp_path, kafka_listen="127.0.0.1:0", grpc_listen="127.0.0.1:0")
    with pytest.raises(Conflict, match="run it again") as refused:
        async with open_mesh(config, targets, database=False):
            pass
    assert refused.value.reason == "RESTORE_UNFINISHED"
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("run", "lock")] == [".restoring"]


@pytest.mark.usefixtures("without_kafka")
async def test_services_of_one_process_call_each_other_within_it_unless_a_socket_is_set(
    tmp_path: Path,
) -> None:
    common = {"home": tmp_path / "home", "kafka_listen": "127.0.0.1:0", "grpc_listen": "127.0.0.1:0"}
    async with open_mesh(load_config(**common), ["store"], database=False) as mesh:
        assert isinstance(mesh.channel("store"), InProcessChannel)
    socket = common | write_certificate(tmp_path) | {"channels": "socket"}
    config = load_config(peers={"store": "127.0.0.1:1"}, **socket)
    async with open_mesh(config, ["store"], database=False) as mesh:
        assert not isinstance(mesh.channel("store"), InProcessChannel)
    with pytest.raises(Invalid, match="LARES_PEERS must contain the address of store"):
        async with open_mesh(load_config(**socket), ["store"], database=False):
            pass


async def calls_itself(mesh: Mesh) -> None:
    """Starts the server with a service of the store, and calls that as its sibling."""
    add = keys_rpc.add_KeyServiceServicer_to_server
    mesh.server.add(add, FakeKeyServicer(), "lares.store.v1.KeyService")
    await mesh.server.start()
    with as_itself():
        await call(keys_rpc.KeyServiceStub(mesh.channel("store")).ListKeys, keys.ListKeysRequest(), wait=True)


@pytest.mark.usefixtures("without_kafka")
async def test_a_lares_with_certificates_of_its_own_serves_tls_and_is_its_own_sibling(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    config = load_config(
        home=tmp_path / "home",
        tls_mode="self_signed",
        channels="socket",
        mesh_listen=f"127.0.0.1:{port}",
        peers={"store": f"localhost:{port}"},
        grpc_listen="127.0.0.1:0",
        kafka_listen="127.0.0.1:0",
    )
    async with open_mesh(config, ["store"], database=False) as mesh:
        await calls_itself(mesh)
        authority = (tmp_path / "home" / "tls" / "ca.pem").read_bytes()
        credentials = grpc.ssl_channel_credentials(authority)
        async with grpc.aio.secure_channel(mesh.addresses["grpc"], credentials) as channel:
            await asyncio.wait_for(channel.channel_ready(), 60)
        await mesh.server.stop(0)


@pytest.mark.usefixtures("without_kafka")
async def test_siblings_without_tls_are_spoken_to_where_that_is_allowed(tmp_path: Path) -> None:
    """Beside TLS for clients: a service mesh encrypts what siblings say."""
    (port,) = free_ports(1)
    config = load_config(
        home=tmp_path / "home",
        mesh_plaintext=True,
        channels="socket",
        mesh_listen=f"127.0.0.1:{port}",
        peers={"store": f"127.0.0.1:{port}"},
        grpc_listen="127.0.0.1:0",
        kafka_listen="127.0.0.1:0",
        **write_certificate(tmp_path),
    )
    with capture_logs() as logged:
        async with open_mesh(config, ["store"], database=False) as mesh:
            await calls_itself(mesh)
            assert await shown_by(mesh.addresses["grpc"])
            await mesh.server.stop(0)
    assert "siblings talk without TLS" in str(logged)
