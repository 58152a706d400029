"""TLS certificates."""

import asyncio
import datetime
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import trustme
from cryptography import x509

from lares.store.v1 import key_service_pb2 as keys
from lares.store.v1 import key_service_pb2_grpc as keys_rpc
from mesh.config import SIBLINGS, load_config
from mesh.tls.factory import open_tls
from mesh.tls.tls import Tls

SECONDS = 60.0
NAMES = ("127.0.0.1", "localhost", *(f"lares-{service}" for service in SIBLINGS))


@dataclass
class Issuer:
    """A CA."""

    ca: trustme.CA = field(default_factory=trustme.CA)

    @property
    def pem(self) -> bytes:
        return self.ca.cert_pem.bytes()

    def write(
        self,
        folder: Path,
        names: Sequence[str] = NAMES,
        key_type: trustme.KeyType = trustme.KeyType.ECDSA,
        expires_at: datetime.datetime | None = None,
    ) -> int:
        """Writes cert.pem and key.pem. Returns the certificate's serial number."""
        issued = self.ca.issue_cert(*names, key_type=key_type, not_after=expires_at)
        folder.mkdir(parents=True, exist_ok=True)
        issued.private_key_pem.write_to_path(str(folder / "key.pem"))
        issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        return serial_in(folder / "cert.pem")


def write_certificate(folder: Path) -> dict[str, Path]:
    """Writes a certificate for this machine, its key and the certificate of the CA that issued it.

    Returns the paths of the files by the names of the settings: tls_cert, tls_key and tls_ca.
    """
    issuer = Issuer()
    issuer.write(folder)
    (folder / "ca.pem").write_bytes(issuer.pem)
    return {f"tls_{name}": folder / f"{name}.pem" for name in ("cert", "key", "ca")}


def opened(files: dict[str, Path], **settings: object) -> Tls:
    """What a process with these files has."""
    return open_tls(load_config(**files, **settings), [])


async def renew(tls: Tls) -> None:
    """What happens in the seconds after files have changed."""
    await tls.refresh()
    await tls.refresh()


def serial_in(file: Path) -> int:
    return serial_of(ssl.PEM_cert_to_DER_cert(file.read_text()))


async def shown_by(address: str, *, client: Path | None = None, context: ssl.SSLContext | None = None) -> int:
    """Connects to `host:port` without checking its certificate, and returns that one's serial number.
    `client` is a folder with the certificate to show."""
    return await asyncio.to_thread(_shown_by, address, client, context)


def _shown_by(address: str, client: Path | None, context: ssl.SSLContext | None) -> int:
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        if client:
            context.load_cert_chain(client / "cert.pem", client / "key.pem")
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host.strip("[]"), int(port)), SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as encrypted,
    ):
        shown = encrypted.getpeercert(binary_form=True)
    assert shown
    return serial_of(shown)


async def siblings_refuse(address: str, shown: Path, authority: Path) -> bool:
    """Whether the siblings' door at `host:port` refuses who shows the certificate in the folder `shown`. Its
    own one is of `authority`."""
    files = authority, shown / "key.pem", shown / "cert.pem"
    credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
    async with grpc.aio.secure_channel(address, credentials) as channel:
        try:
            await keys_rpc.KeyServiceStub(channel).ListKeys(keys.ListKeysRequest(), timeout=90)
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.UNAVAILABLE
    return False


def old_tls() -> ssl.SSLContext:
    """A client that speaks TLS 1.1 at most, as far as OpenSSL is concerned."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    allow_old_tls(context)
    return context


def allow_old_tls(context: ssl.SSLContext) -> None:
    """Has it speak TLS 1.0 and 1.1, and nothing newer."""
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1


def serial_of(der: bytes) -> int:
    return x509.load_der_x509_certificate(der).serial_number
