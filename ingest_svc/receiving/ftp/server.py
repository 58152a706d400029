"""The FTP receiver: listens, bounds sessions, and gives each a thread."""

import asyncio
import concurrent.futures
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from pyftpdlib.ioloop import IOLoop

from ingest_svc.receiving.ftp.accounts import Accounts
from ingest_svc.receiving.ftp.camera_uploads import CameraUploads
from ingest_svc.receiving.ftp.encryption import Encryption
from ingest_svc.receiving.ftp.login_delays import LoginDelays
from ingest_svc.receiving.ftp.session import Session, TlsSession
from mesh.addresses import split_address
from mesh.config import Config, naming
from mesh.ports import wait_until_free
from mesh.problems import Unavailable
from mesh.tls.tls import Tls

log = structlog.get_logger(__name__)

# One address may be a recorder that sends for all of its cameras.
MAX_SESSIONS, MAX_OF_ADDRESS = 128, 32
CHECK_SECONDS, JOIN_SECONDS = 10.0, 5.0
EXPIRY_SECONDS = 600.0
POLL_SECONDS = 1.0


@asynccontextmanager
async def open_ftp(
    config: Config, uploads: CameraUploads, accounts: Accounts, tls: Tls | None
) -> AsyncIterator[str]:
    """Receives files until the block ends. Yields the address.

    Raises Invalid BAD_ADDRESS and Conflict PORT_TAKEN.
    """
    host, port = split_address(config.ftp_listen)
    with naming("ftp_listen"):
        await wait_until_free(host, port)
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.create_server(address[:2], family=family, backlog=64)
    encryption = Encryption(tls) if tls else None
    server = FtpServer(
        listener,
        uploads,
        accounts,
        encryption,
        config.ftp_plaintext,
        config.ftp_passive_range,
        config.ftp_passive_address,
    )
    if config.ftp_plaintext:
        log.warning("FTP without TLS is allowed: passwords and media can be read on the way")
    server.start()
    try:
        yield f"{host}:{listener.getsockname()[1]}"
    finally:
        await asyncio.to_thread(server.stop)


class FtpServer:
    """Also what pyftpdlib's handlers expect of their server: `socket`, `backlog`, `ip_map` and
    `_accept_new_cons`."""

    backlog = 1

    def __init__(
        self,
        listener: socket.socket,
        uploads: CameraUploads,
        accounts: Accounts,
        encryption: Encryption | None,
        plaintext: bool,
        passive_ports: range | None,
        passive_address: str,
    ) -> None:
        self.socket, self.uploads, self.encryption, self.plaintext = listener, uploads, encryption, plaintext
        self.passive_ports = list(passive_ports) if passive_ports else None
        self.passive_address = passive_address
        self.ip_map: list[str] = []
        self._accounts, self._delays = accounts, LoginDelays()
        self._loop = asyncio.get_running_loop()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._sessions: dict[threading.Thread, str] = {}
        self._workers = [
            threading.Thread(target=self._accept, name="ftp-accept", daemon=True),
            threading.Thread(target=self._expire, name="ftp-expiry", daemon=True),
        ]

    def start(self) -> None:
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        """Ends all sessions. Blocks for at most JOIN_SECONDS or so."""
        self._stopping.set()
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # which ends `accept`
        self.socket.close()
        deadline = time.monotonic() + JOIN_SECONDS
        with self._lock:
            threads = [*self._workers, *self._sessions]
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def login(self, camera_id: str, password: str, address: str) -> str:
        """Returns the name of the camera's folder. Waits first if there were failures. Raises what
        Accounts.folder raises."""
        self._stopping.wait(self._delays.seconds(address, camera_id))
        try:
            folder = self._folder(camera_id, password)
        except Unavailable:
            raise
        except Exception as problem:
            self._delays.failed(address, camera_id)
            log.warning("FTP login refused", camera_id=camera_id, address=address, why=str(problem))
            raise
        self._delays.succeeded(address, camera_id)
        return folder

    def still_welcome(self, camera_id: str, password: str) -> bool:
        """False once the key is revoked, or the camera deleted or disabled. While that cannot be checked, an
        open session goes on."""
        try:
            self._folder(camera_id, password)
        except Unavailable:
            return True
        except Exception as problem:
            log.warning("FTP session ended", camera_id=camera_id, why=str(problem))
            return False
        return True

    def _folder(self, camera_id: str, password: str) -> str:
        asked = asyncio.run_coroutine_threadsafe(self._accounts.folder(camera_id, password), self._loop)
        try:
            return asked.result(CHECK_SECONDS)
        except concurrent.futures.TimeoutError:
            asked.cancel()
            raise Unavailable("the password cannot be checked now", "DEADLINE") from None

    def _accept_new_cons(self) -> bool:
        """A session has one data connection at most."""
        return True

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                accepted, peer = self.socket.accept()
            except OSError as error:
                if not self._stopping.is_set():
                    log.warning("FTP connection not accepted", error=str(error))
                    self._stopping.wait(POLL_SECONDS)
                continue
            address = str(peer[0])
            thread = threading.Thread(
                target=self._serve, args=(accepted,), name=f"ftp {address}", daemon=True
            )
            with self._lock:
                taken = list(self._sessions.values())
                full = len(taken) >= MAX_SESSIONS or taken.count(address) >= MAX_OF_ADDRESS
                if not full:
                    self._sessions[thread] = address
            if full:
                with suppress(OSError):
                    accepted.setblocking(False)
                    accepted.send(b"421 There are too many connections.\r\n")
                accepted.close()
                continue
            try:
                thread.start()
            except RuntimeError as error:  # the system has no more threads
                log.warning("FTP connection not accepted", error=str(error))
                accepted.close()
                with self._lock:
                    del self._sessions[thread]

    def _serve(self, accepted: socket.socket) -> None:
        try:
            self._run(accepted)
        except Exception:
            log.exception("FTP session failed")
        finally:
            accepted.close()
            with self._lock:
                del self._sessions[threading.current_thread()]

    def _run(self, accepted: socket.socket) -> None:
        handler: Any = TlsSession if self.encryption is not None else Session
        loop: Any
        with IOLoop() as loop:
            session = handler(accepted, self, loop)
            if session.connected:
                session.handle()
            while loop.socket_map and not self._stopping.is_set():
                soon = loop.sched.poll()
                loop.poll(POLL_SECONDS if soon is None else min(soon, POLL_SECONDS))

    def _expire(self) -> None:
        while True:
            try:
                self.uploads.expire(time.time())
            except Exception:
                log.exception("unfinished files of FTP not looked at")
            if self._stopping.wait(EXPIRY_SECONDS):
                return
