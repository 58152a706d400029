"""What a process may listen on, and where its siblings are."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy import opening
from deploy.opening import guard_listening, is_loopback, mesh_socket, open_mesh, peer_credentials
from mesh.config import load_config
from mesh.problems import Invalid


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_loopback_needs_no_word() -> None:
    guard_listening(load_config())


@pytest.mark.parametrize("setting", ["gateway_listen", "grpc_listen", "kafka_listen"])
def test_beyond_loopback_needs_tls_or_a_word(setting: str) -> None:
    with pytest.raises(Invalid, match=f"LARES_{setting.upper()}"):
        guard_listening(load_config(**{setting: "0.0.0.0:7777"}))
    guard_listening(load_config(**{setting: "0.0.0.0:7777", "allow_plaintext": True}))


def test_tls_opens_http_and_grpc_but_not_kafka_which_has_none() -> None:
    tls = {"tls_cert": "cert.pem", "tls_key": "key.pem"}
    guard_listening(load_config(gateway_listen="0.0.0.0:1", grpc_listen="[::]:2", **tls))
    with pytest.raises(Invalid, match="LARES_KAFKA_LISTEN"):
        guard_listening(load_config(kafka_listen="0.0.0.0:3", **tls))


@pytest.mark.parametrize("settings", [{"mesh_listen": "127.0.0.1:1"}, {"peers": {"store": "127.0.0.1:1"}}])
def test_siblings_of_other_processes_need_certificates(settings: dict[str, object]) -> None:
    config = load_config(**settings)
    with pytest.raises(Invalid, match="LARES_TLS_CA"):
        (guard_listening if config.mesh_listen else peer_credentials)(config)


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("nas.lan:1", False),
    ],
)
def test_loopback_is_told_from_the_rest(address: str, answer: bool) -> None:
    assert is_loopback(address) is answer


def test_a_long_home_has_a_short_socket(tmp_path: Path) -> None:
    home = tmp_path / ("deep" * 30)
    home.mkdir()
    assert len(mesh_socket(home).removeprefix("unix:")) <= 107
    assert mesh_socket(home) == mesh_socket(home)
    assert mesh_socket(home) != mesh_socket(tmp_path)


class FakeBus:
    async def create_topics(self) -> None:
        return None

    async def check(self) -> None:
        return None


async def test_port_zero_is_shown_as_the_one_that_it_became(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def kafka(*_: object) -> AsyncIterator[str]:
        yield "kafka://lares:secret@127.0.0.1:41234"

    @asynccontextmanager
    async def bus(*_: object, **__: object) -> AsyncIterator[FakeBus]:
        yield FakeBus()

    monkeypatch.setattr(opening, "open_kafka", kafka)
    monkeypatch.setattr(opening, "open_bus", bus)
    config = load_config(
        home=tmp_path / "home", kafka_listen="0.0.0.0:0", grpc_listen="127.0.0.1:0", allow_plaintext=True
    )
    async with open_mesh(config, ["store"], database=False) as mesh:
        assert mesh.addresses["kafka"] == "0.0.0.0:41234"
        assert mesh.addresses["grpc"].rpartition(":")[2] != "0"
