"""Lares's own CA and certificates."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from mesh.config import load_config
from mesh.file_lock import try_lock
from mesh.problems import Invalid, Unavailable
from mesh.tls import authority as authority_module
from mesh.tls import own_names as own_names_module
from mesh.tls import tls as tls_module
from mesh.tls.authority import AUTHORITY_DAYS, DAYS, EARLIEST, Pair, open_authority
from mesh.tls.factory import make_own, open_tls
from mesh.tls.own_names import own_names
from tests.support.waiting import until

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
NAMES = ("localhost", "127.0.0.1", "::1", "lares-store")
# Starts a process that makes its certificate; all wait for the same moment.
CONCURRENT = """
import sys, time
from mesh.config import load_config
from mesh.tls.factory import open_tls
home, shared, at = sys.argv[1:]
config = load_config(home=home, tls_mode="self_signed", tls_ca_folder=shared)
time.sleep(max(0.0, float(at) - time.time()))
open_tls(config, [])
"""


def issue(
    folder: Path, now: datetime = NOW, names: Sequence[str] = NAMES, days: int = DAYS
) -> x509.Certificate:
    """What is in the folder after a certificate for these names was asked for."""
    with open_authority(folder, now) as authority:
        authority.issue(pair(folder), names, days)
    return x509.load_pem_x509_certificate(pair(folder).certificate.read_bytes())


def pair(folder: Path) -> Pair:
    return Pair(folder / "cert.pem", folder / "key.pem")


def authority_in(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())


@pytest.mark.parametrize("name", [*NAMES, "LARES-STORE"])
def test_clients_that_trust_the_ca_accept_every_name(tmp_path: Path, name: str) -> None:
    issue(tmp_path)
    assert handshake(tmp_path, name)


@pytest.mark.parametrize("name", ["lares-detect", "192.0.2.1", "example.com"])
def test_they_accept_no_other_name(tmp_path: Path, name: str) -> None:
    issue(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, name)


def handshake(folder: Path, name: str) -> str | None:
    """The version of TLS that a server with the certificate and a client that trusts the CA agree on; each
    checks the other's certificate, as strictly as OpenSSL can."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=folder / "ca.pem")
    for context in (server, client):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        failed = list[ssl.SSLError]()

        def serve() -> None:
            try:
                server.wrap_socket(theirs, server_side=True).recv(1)
            except OSError as error:
                if isinstance(error, ssl.SSLError):
                    failed.append(error)

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            with client.wrap_socket(ours, server_hostname=name) as encrypted:
                version = encrypted.version()
                encrypted.sendall(b"x")
        finally:
            ours.close()
            serving.join()
        assert not failed
    return version


def test_keys_are_private_and_certificates_are_not(tmp_path: Path) -> None:
    issue(tmp_path)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.name != "lock"}
    assert modes == {"ca.pem": 0o644, "ca-key.pem": 0o600, "cert.pem": 0o644, "key.pem": 0o600}


def test_what_is_good_is_kept(tmp_path: Path) -> None:
    first, authority = issue(tmp_path), authority_in(tmp_path)
    assert issue(tmp_path, NOW + timedelta(days=240)) == first
    assert issue(tmp_path, NOW, NAMES[1:]) == first  # it has more names than are asked for
    assert authority_in(tmp_path) == authority
    assert authority.not_valid_after_utc == NOW + timedelta(days=AUTHORITY_DAYS)


@pytest.mark.parametrize(
    ("days", "names"), [(250, NAMES), (400, NAMES), (0, (*NAMES, "nas.lan")), (-300, NAMES)]
)
def test_what_expires_soon_or_lacks_a_name_is_renewed_by_the_same_ca(
    tmp_path: Path, days: int, names: Sequence[str]
) -> None:
    """-300: a clock that was set back. What was made in the future is not valid yet."""
    now = NOW + timedelta(days=300)
    first, authority = issue(tmp_path, now), authority_in(tmp_path)
    later = now + timedelta(days=days)
    second = issue(tmp_path, later, names)
    assert second != first
    assert second.not_valid_before_utc <= later
    assert second.not_valid_after_utc == later + timedelta(days=DAYS)
    assert authority_of(second, tmp_path) == authority


@pytest.mark.parametrize("damage", ["key.pem", "cert.pem", "both", "other key"])
def test_a_pair_that_is_incomplete_is_made_again(tmp_path: Path, damage: str) -> None:
    first = issue(tmp_path)
    for name in ("key.pem", "cert.pem"):
        if damage in (name, "both"):
            (tmp_path / name).unlink()
    if damage == "other key":
        issue(tmp_path / "other")
        shutil.copy(tmp_path / "other" / "key.pem", tmp_path)
    assert issue(tmp_path) != first
    assert handshake(tmp_path, "localhost")


def test_a_start_that_was_killed_after_the_key_of_the_ca_is_made_good(tmp_path: Path) -> None:
    issue(tmp_path)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).unlink()
    (tmp_path / "ca.pem.part").write_text("half")
    issue(tmp_path)
    assert handshake(tmp_path, "localhost")


@pytest.mark.parametrize("damage", ["missing", "other", "garbage"])
def test_a_ca_without_its_key_is_not_replaced(tmp_path: Path, damage: str) -> None:
    """Nobody would trust the new one, and nobody would be told."""
    issue(tmp_path)
    (tmp_path / "ca-key.pem").unlink()
    if damage == "other":
        shutil.copy(tmp_path / "key.pem", tmp_path / "ca-key.pem")
    elif damage == "garbage":
        (tmp_path / "ca-key.pem").write_text("garbage")
    before = authority_in(tmp_path)
    with pytest.raises(Invalid, match="ca-key") as refused:
        issue(tmp_path)
    assert refused.value.reason == "BAD_AUTHORITY"
    assert authority_in(tmp_path) == before


def test_an_expired_ca_is_replaced(tmp_path: Path) -> None:
    first = authority_of(issue(tmp_path), tmp_path)
    later = NOW + timedelta(days=AUTHORITY_DAYS, seconds=1)
    second = authority_of(issue(tmp_path, later), tmp_path)
    assert second != first
    assert second.subject != first.subject  # clients can trust both


def authority_of(issued: x509.Certificate, folder: Path) -> x509.Certificate:
    authority = authority_in(folder)
    issued.verify_directly_issued_by(authority)
    return authority


def test_a_certificate_does_not_outlast_its_ca_and_is_not_made_again_and_again(tmp_path: Path) -> None:
    issue(tmp_path)
    late = NOW + timedelta(days=AUTHORITY_DAYS - 10)
    last = issue(tmp_path, late)
    assert last.not_valid_after_utc == authority_in(tmp_path).not_valid_after_utc
    assert issue(tmp_path, late + timedelta(days=5)) == last


def test_a_clock_that_was_never_set_makes_nothing_that_is_expired_afterwards(tmp_path: Path) -> None:
    made = issue(tmp_path, datetime(1970, 1, 1, tzinfo=UTC))
    assert made.not_valid_after_utc == EARLIEST + timedelta(days=DAYS)
    assert authority_in(tmp_path).not_valid_after_utc == EARLIEST + timedelta(days=AUTHORITY_DAYS)


def test_the_file_of_the_ca_may_hold_others_to_trust(tmp_path: Path) -> None:
    first = issue(tmp_path)
    issue(tmp_path / "other")
    (tmp_path / "ca.pem").write_bytes(
        (tmp_path / "other" / "ca.pem").read_bytes() + (tmp_path / "ca.pem").read_bytes()
    )
    assert issue(tmp_path) == first
    assert handshake(tmp_path, "localhost")


def test_processes_that_start_together_share_one_ca(tmp_path: Path) -> None:
    at = str(datetime.now(UTC).timestamp() + 3)
    homes = [tmp_path / f"home-{number}" for number in range(5)]
    starting = [
        subprocess.Popen([sys.executable, "-c", CONCURRENT, str(home), str(tmp_path / "shared"), at])
        for home in homes
    ]
    assert [process.wait(120) for process in starting] == [0] * len(homes)
    authority = authority_in(tmp_path / "shared")
    for home in homes:
        x509.load_pem_x509_certificate((home / "tls" / "cert.pem").read_bytes()).verify_directly_issued_by(
            authority
        )
    assert not list(tmp_path.rglob("*.part"))


def test_who_uses_a_ca_has_its_folder_alone(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("a") as other:
        with open_authority(tmp_path, NOW):
            assert not try_lock(other)
        assert try_lock(other)


async def test_a_folder_that_another_does_not_let_go_of_is_an_error_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(home=tmp_path, tls_mode="self_signed")
    tls = open_tls(config, [])
    before = tls.now
    monkeypatch.setattr(authority_module, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(tls_module, "READ_SECONDS", 0.01)
    monkeypatch.setattr(tls_module, "RENEWAL_SECONDS", 0.0)
    (tmp_path / "tls" / "cert.pem").unlink()
    with (tmp_path / "tls" / "lock").open("a") as other:
        assert try_lock(other)
        with pytest.raises(Unavailable, match=r"locked for 0\.1 s") as refused:
            open_tls(config, [])
        assert refused.value.reason == "AUTHORITY_IN_USE"
        following = asyncio.create_task(tls.keep_fresh())
        await until(lambda: "locked" in tls.warnings().get("renewal", ""))
        assert tls.now is before
    await until(lambda: tls.warnings() == {} and tls.now is not before)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


def test_a_lares_makes_its_certificate_at_its_first_start_and_keeps_it(tmp_path: Path) -> None:
    config = load_config(home=tmp_path, tls_mode="self_signed", tls_names="nas.lan")
    first = open_tls(config, []).now
    assert open_tls(config, []).now == first
    assert {path.name for path in (tmp_path / "tls").iterdir()} == {
        *("ca.pem", "ca-key.pem", "cert.pem", "key.pem", "lock")
    }
    assert first.authorities == (tmp_path / "tls" / "ca.pem").read_bytes()
    assert handshake(tmp_path / "tls", "nas.lan")
    with pytest.raises(Invalid, match="cannot make a certificate"):
        open_tls(config.model_copy(update={"tls_ca_folder": Path("/proc/nowhere")}), [])


def test_the_certificate_follows_the_names(tmp_path: Path) -> None:
    config = load_config(home=tmp_path, tls_mode="self_signed")
    make_own(config, [])
    first = (tmp_path / "tls" / "cert.pem").read_bytes()
    make_own(config.model_copy(update={"tls_names": ["nas.lan"]}), [])
    assert (tmp_path / "tls" / "cert.pem").read_bytes() != first


def test_names_are_those_of_the_machine_its_addresses_and_its_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "böse host")
    monkeypatch.setattr(socket, "getfqdn", lambda: "nas.example.org")
    monkeypatch.setattr(own_names_module, "reachable_host", lambda host: {"::": "[fd00::7]"}[host])
    config = load_config(
        home=tmp_path,
        tls_mode="self_signed",
        gateway_listen="[::]:8000",
        grpc_listen="192.168.1.5:50051",
        mesh_listen="10.0.0.1:50052",
        push_listen="cams.lan:1",
        tls_names="*.lares.example.org,fe80::1",
    )
    assert own_names(config, ["store", "gateway"]) == [
        *("localhost", "127.0.0.1", "::1", "nas.example.org", "*.lares.example.org", "fe80::1"),
        *("fd00::7", "192.168.1.5", "10.0.0.1", "cams.lan", "lares-store", "lares-gateway"),
    ]


def test_a_resolver_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    monkeypatch.setattr(own_names_module, "RESOLVER_SECONDS", 0.01)
    monkeypatch.setattr(socket, "getfqdn", lambda: str(answered.wait(60)))
    assert own_names(load_config(home=tmp_path), [])[:3] == ["localhost", "127.0.0.1", "::1"]
    answered.set()
