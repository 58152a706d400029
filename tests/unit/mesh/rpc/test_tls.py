"""Mutual TLS on real sockets: who is let in, and certificates that change while calls go on."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from lares.store.v1 import event_service_pb2 as events
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from lares.store.v1 import key_service_pb2 as keys
from lares.store.v1 import key_service_pb2_grpc as keys_rpc
from mesh.problems import Unavailable
from mesh.rpc import API_KEY, AS_ITSELF, Channels, call
from mesh.rpc.credentials import sibling_credentials
from mesh.rpc.renewed_channel import RenewedChannel
from mesh.tls.tls import Tls
from tests.support.certificates import Issuer, allow_old_tls, old_tls, opened, renew, serial_in, shown_by
from tests.support.rpc_harness import Harness, open_harness
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("calling_as_itself")

SIBLING, CLIENT = ((AS_ITSELF, "1"),), ((API_KEY, "good"),)


def files_in(folder: Path) -> dict[str, Path]:
    return {f"tls_{name}": folder / f"{name}.pem" for name in ("cert", "key", "ca")}


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    """The CA of the siblings, with a certificate in the folder."""
    issuer = Issuer()
    issuer.write(tmp_path)
    (tmp_path / "ca.pem").write_bytes(issuer.pem)
    return issuer


@pytest.fixture
def tls(issuer: Issuer, tmp_path: Path) -> Tls:
    return opened(files_in(tmp_path))


@pytest.fixture
async def harness(tls: Tls, tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, tls) as made:
        yield made


async def list_keys(channel: grpc.aio.Channel, headers: tuple[tuple[str, str], ...] = SIBLING) -> str:
    answer = await call(keys_rpc.KeyServiceStub(channel).ListKeys, keys.ListKeysRequest(), headers=headers)
    return answer.keys[0].name


@asynccontextmanager
async def connected(address: str, *credentials: bytes) -> AsyncIterator[grpc.aio.Channel]:
    """As anybody could connect: with a CA and, perhaps, a key and a certificate."""
    async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(*credentials)) as channel:
        yield channel


def presented(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "key.pem").read_bytes(), (folder / "cert.pem").read_bytes()


async def test_a_sibling_with_a_certificate_of_the_ca_is_let_in(harness: Harness) -> None:
    assert await list_keys(harness.private) == "sibling:"


async def test_nobody_else_is_a_sibling(harness: Harness, issuer: Issuer, tmp_path: Path) -> None:
    """No certificate, one of another CA, and one that may be shown by servers only."""
    siblings, clients = harness.doors
    stranger = Issuer()
    stranger.write(tmp_path / "stranger")
    server_only(issuer, tmp_path / "server")
    for shown in ((), presented(tmp_path / "stranger"), presented(tmp_path / "server")):
        async with connected(siblings, issuer.pem, *shown) as channel:
            with pytest.raises(Unavailable):
                await list_keys(channel)
    # The clients' door lets the same ones in, and asks for a key.
    async with connected(clients, issuer.pem) as channel:
        assert await list_keys(channel, CLIENT) == "key:Ann"


async def test_the_ca_of_the_certificate_for_clients_makes_no_siblings(
    tmp_path: Path, issuer: Issuer
) -> None:
    """Where clients see a certificate of a public CA, and siblings have their own."""
    public = Issuer()
    public.write(tmp_path / "public")
    public.write(tmp_path / "somebody")
    files = files_in(tmp_path / "public") | {"tls_ca": tmp_path / "ca.pem"}
    mesh = {"mesh_cert": tmp_path / "cert.pem", "mesh_key": tmp_path / "key.pem"}
    async with open_harness(tmp_path, opened(files, **mesh)) as harness:
        siblings, clients = harness.doors
        assert await list_keys(harness.private) == "sibling:"
        async with connected(siblings, issuer.pem, *presented(tmp_path / "somebody")) as channel:
            with pytest.raises(Unavailable):
                await list_keys(channel)
        async with connected(clients, public.pem, *presented(tmp_path / "somebody")) as channel:
            assert await list_keys(channel, CLIENT) == "key:Ann"
        assert await shown_by(clients) == serial_in(tmp_path / "public" / "cert.pem")
        assert await shown_by(siblings, client=tmp_path) == serial_in(tmp_path / "cert.pem")


async def test_a_server_of_another_ca_or_name_is_no_sibling(
    harness: Harness, issuer: Issuer, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    for other, names in ((Issuer(), ("127.0.0.1",)), (issuer, ("lares-detect",))):
        other.write(elsewhere, names)
        (elsewhere / "ca.pem").write_bytes(issuer.pem)  # it trusts the siblings, who do not trust it
        async with open_harness(elsewhere, opened(files_in(elsewhere))) as foreign:
            channels = Channels(
                {}, {"store": foreign.doors[0]}, sibling_credentials(opened(files_in(tmp_path)))
            )
            with pytest.raises(Unavailable):
                await list_keys(channels.to("store"))
            await channels.close()


@pytest.mark.parametrize("door", [0, 1])
async def test_old_versions_of_tls_are_refused(harness: Harness, tmp_path: Path, door: int) -> None:
    """gRPC refuses them by itself; this proves it. The same client is let in with newer versions."""
    address = harness.doors[door]
    assert await shown_by(address, client=tmp_path)
    context = old_tls()
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with pytest.raises((ssl.SSLError, OSError)):
        await shown_by(address, context=context)


async def test_a_server_with_an_old_version_of_tls_is_not_spoken_to(tls: Tls, tmp_path: Path) -> None:
    handshakes = list[str]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handshakes.append(writer.get_extra_info("ssl_object").version())
        writer.close()

    for old in (False, True):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        context.set_alpn_protocols(["h2"])
        if old:
            allow_old_tls(context)
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            channels = Channels({}, {"store": address}, sibling_credentials(tls))
            with pytest.raises(Unavailable):
                await list_keys(channels.to("store"))
            await channels.close()
        assert set(handshakes) == {"TLSv1.3"}


async def test_new_connections_show_renewed_certificates(
    harness: Harness, issuer: Issuer, tls: Tls, tmp_path: Path
) -> None:
    issuer.write(tmp_path / "client")
    shown = partial(shown_by, client=tmp_path / "client")
    before = serial_in(tmp_path / "cert.pem")
    assert [await shown(door) for door in harness.doors] == [before, before]
    after = issuer.write(tmp_path, key_type=trustme.KeyType.RSA)
    await renew(tls)
    assert [await shown(door) for door in harness.doors] == [after, after] != [before, before]


async def test_no_call_fails_while_certificates_and_their_ca_change(
    harness: Harness, issuer: Issuer, tls: Tls, tmp_path: Path
) -> None:
    """First both CAs are trusted, then certificates are of the new one, then only that is trusted."""
    stub = keys_rpc.KeyServiceStub(harness.private)
    begun, ended, stopping = 0, 0, False

    async def keep_calling() -> None:
        nonlocal begun, ended
        while not stopping:
            begun += 1
            answer = await call(stub.ListKeys, keys.ListKeysRequest(), headers=SIBLING)
            assert answer.keys[0].name == "sibling:"
            ended += 1

    async def calls_more() -> None:
        now = ended
        await until(lambda: ended > now + 50 or any(caller.done() for caller in callers))

    assert isinstance(harness.private, RenewedChannel)
    callers = [asyncio.create_task(keep_calling()) for _ in range(8)]
    new = Issuer()
    channels = [harness.private.current()]
    steps: list[Callable[[], object]] = [
        lambda: (tmp_path / "ca.pem").write_bytes(issuer.pem + new.pem),
        lambda: new.write(tmp_path),
        lambda: (tmp_path / "ca.pem").write_bytes(new.pem),
    ]
    for step in steps:
        await calls_more()
        step()
        await renew(tls)
        assert not tls.warnings()
        await calls_more()
        channels.append(harness.private.current())
    stopping = True
    await asyncio.gather(*callers)
    assert begun == ended
    assert len(set(channels)) == 4
    # Who has a certificate of the old CA only is no sibling any more.
    issuer.write(tmp_path / "old")
    async with connected(harness.doors[0], new.pem, *presented(tmp_path / "old")) as channel:
        with pytest.raises(Unavailable):
            await list_keys(channel)


async def test_a_call_that_has_begun_ends_on_its_connection(
    harness: Harness, issuer: Issuer, tls: Tls, tmp_path: Path
) -> None:
    going_on = asyncio.Event()
    harness.watched.rest = going_on.wait
    stub = events_rpc.EventServiceStub(harness.private)
    watching = stub.WatchEvents(events.WatchEventsRequest(), metadata=SIBLING)
    responses = aiter(watching)
    assert [(await anext(responses)).change.sequence for _ in range(3)] == [1, 2, 3]
    issuer.write(tmp_path)
    await renew(tls)
    assert await list_keys(harness.private) == "sibling:"  # on a new connection
    going_on.set()
    assert [(await anext(responses)).change.sequence for _ in range(100)] == list(range(4, 104))
    watching.cancel()


def server_only(issuer: Issuer, folder: Path) -> None:
    """Writes a certificate of the CA that only servers may show."""
    issuer.write(folder)
    found = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    authority = x509.load_pem_x509_certificate(issuer.pem)
    builder = (
        x509.CertificateBuilder()
        .subject_name(found.subject)
        .issuer_name(authority.subject)
        .public_key(found.public_key())
        .serial_number(found.serial_number)
        .not_valid_before(found.not_valid_before_utc)
        .not_valid_after(found.not_valid_after_utc)
    )
    for extension in found.extensions:
        value = extension.value
        if isinstance(value, x509.ExtendedKeyUsage):
            value = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(value, extension.critical)
    key = load_pem_private_key(issuer.ca.private_key_pem.bytes(), None)
    made = builder.sign(key, SHA256())  # type: ignore[arg-type]
    (folder / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
