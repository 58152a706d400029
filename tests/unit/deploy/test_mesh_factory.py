"""The addresses that a process may listen on, its certificates, and its sockets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from deploy import mesh_factory
from deploy.mesh_factory import (
    client_credentials,
    guard_listening,
    is_loopback,
    open_mesh,
    operator_socket,
    peer_credentials,
    sibling_credentials,
)
from mesh.config import load_config
from mesh.problems import Invalid
from mesh.rpc.in_process_channel import InProcessChannel
from tests.support.certificates import write_certificate


@pytest.fixture(autouse=True)
def _empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_loopback_is_allowed() -> None:
    guard_listening(load_config())


@pytest.mark.parametrize("setting", ["gateway_listen", "grpc_listen", "kafka_listen", "push_listen"])
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
def test_siblings_in_other_processes_need_certificates(settings: dict[str, object]) -> None:
    config = load_config(**settings)
    with pytest.raises(Invalid, match="LARES_TLS_CA"):
        (guard_listening if config.mesh_listen else peer_credentials)(config)


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


@pytest.mark.parametrize(
    ("file", "setting"),
    [("cert.pem", "LARES_TLS_CERT"), ("key.pem", "LARES_TLS_KEY"), ("ca.pem", "LARES_TLS_CA")],
)
def test_an_invalid_certificate_is_named_in_the_error(tmp_path: Path, file: str, setting: str) -> None:
    config = load_config(peers={"store": "127.0.0.1:1"}, **write_certificate(tmp_path))
    assert peer_credentials(config)
    assert sibling_credentials(config)
    (tmp_path / file).write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    for credentials in (peer_credentials, sibling_credentials):
        with pytest.raises(Invalid, match=setting) as refused:
            credentials(config)
        assert refused.value.reason == "BAD_CERTIFICATE"


def test_a_key_with_a_password_is_refused_without_a_prompt(tmp_path: Path) -> None:
    config = load_config(**write_certificate(tmp_path))
    key = load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (tmp_path / "key.pem").write_bytes(locked)
    with pytest.raises(Invalid, match="LARES_TLS_KEY"):
        client_credentials(config)


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
    async def create_topics(self) -> None:
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
