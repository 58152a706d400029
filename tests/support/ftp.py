"""The FTP receiver of a real ingest, and clients as cameras have them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from ftplib import FTP, FTP_TLS, error_perm, error_temp
from pathlib import Path
from typing import TypeVar

from ingest_svc.receiving.ftp.accounts import Accounts
from ingest_svc.receiving.ftp.server import open_ftp
from mesh.permissions import OF_A_KEY, UPLOAD
from mesh.problems import Unauthenticated, Unavailable
from mesh.security import Caller
from mesh.tls.tls import Tls
from tests.support.certificates import opened
from tests.support.ingest_harness import IngestHarness

SECONDS = 60.0
T = TypeVar("T")


class Keys:
    """Keys of two cameras, and one that may do everything. `away` is a store that does not answer."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0
        self.callers = {
            "porch-password": Caller.of_key("1", "porch", frozenset({UPLOAD}), "porch"),
            "door-password": Caller.of_key("2", "door", frozenset({UPLOAD}), "door"),
            "admin": Caller.of_key("3", "admin", OF_A_KEY),
            "upload-all": Caller.of_key("4", "all", frozenset({UPLOAD})),
        }

    async def verify(self, secret: str) -> Caller:
        self.asked += 1
        if self.away:
            raise Unavailable("the store does not answer", "STORE_AWAY")
        if secret not in self.callers:
            raise Unauthenticated("this API key is unknown or revoked", "BAD_API_KEY")
        return self.callers[secret]


class Receiver:
    def __init__(
        self, harness: IngestHarness, keys: Keys, address: str, ca: Path | None, tls: Tls | None
    ) -> None:
        self.harness, self.keys, self._ca, self.tls = harness, keys, ca, tls
        host, _, port = address.rpartition(":")
        self.host, self.port = host, int(port)

    async def use(self, work: Callable[[FTP], T], user: str = "porch", password: str = "") -> T:
        """Runs `work` on a thread, with a client that has logged in."""

        def run() -> T:
            with self.client() as client:
                client.login(user, password or f"{user}-password")
                if isinstance(client, FTP_TLS):
                    client.prot_p()
                return work(client)

        return await asyncio.to_thread(run)

    def client(self, *, tls: bool | None = None) -> FTP:
        client: FTP
        if self._ca if tls is None else tls:
            client = FTP_TLS(context=ssl.create_default_context(cafile=str(self._ca)), timeout=SECONDS)
        else:
            client = FTP(timeout=SECONDS)
        client.encoding = "latin-1"  # every byte as it is
        client.connect(self.host, self.port)
        return client


@asynccontextmanager
async def receiving(
    harness: IngestHarness, certificate: dict[str, Path] | None = None, **settings: object
) -> AsyncIterator[Receiver]:
    """Plain FTP, unless there is a certificate."""
    harness.settings |= {"ftp_listen": "127.0.0.1:0", **settings}
    if certificate:
        harness.settings |= {"tls_cert": certificate["tls_cert"], "tls_key": certificate["tls_key"]}
    else:
        harness.settings |= {"ftp_plaintext": True}
    tls = opened(certificate) if certificate else None
    async with harness.running() as ingest:
        keys = Keys()
        accounts = Accounts(keys.verify, ingest.admission)
        async with open_ftp(harness.config(), ingest.camera_uploads, accounts, tls) as address:
            yield Receiver(harness, keys, address, certificate["tls_ca"] if certificate else None, tls)


def send(path: str, content: bytes, command: str = "STOR", rest: int | None = None) -> Callable[[FTP], str]:
    """Returns the reply."""

    def work(client: FTP) -> str:
        # The server ends the connection if it cannot store the file.
        with client.transfercmd(f"{command} {path}", rest) as connection, suppress(OSError):
            connection.sendall(content)
            if isinstance(connection, ssl.SSLSocket):
                connection.unwrap()
        return client.voidresp()

    return work


def refused(work: Callable[[FTP], object]) -> Callable[[FTP], str]:
    """Returns the reply by which the server refuses `work`."""

    def trying(client: FTP) -> str:
        try:
            answer = work(client)
        except (error_perm, error_temp) as error:
            return str(error)
        raise AssertionError(f"not refused: {answer}")

    return trying


def read_lines(client: FTP, command: str) -> list[str]:
    lines = list[str]()
    client.retrlines(command, lines.append)
    return lines
