"""What a process shows its clients and its siblings. Loads no library for certificates: see parsing."""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class CertifiedKey:
    """A private key and, first in `chain`, its certificate, both in PEM. `context` is what a server needs to
    show them."""

    key: bytes = field(repr=False)
    chain: bytes = field(repr=False)
    expires_at: datetime
    context: ssl.SSLContext = field(repr=False, compare=False)


@dataclass(frozen=True)
class Certificates:
    """What is shown to clients, what is shown to siblings, and the CAs (PEM) whose certificates siblings
    have; without any (empty), no sibling in another process can be spoken to."""

    clients: CertifiedKey
    siblings: CertifiedKey
    authorities: bytes
    authorities_expire_at: datetime | None

    def expiries(self) -> dict[str, datetime]:
        """When each certificate expires, by a name for people."""
        found = {"clients": self.clients.expires_at, "siblings": self.siblings.expires_at}
        if self.authorities_expire_at is None:
            del found["siblings"]
        else:
            found["ca"] = self.authorities_expire_at
        return found


def server_context(key: bytes, chain: bytes) -> ssl.SSLContext:
    """Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with _in_a_file(chain + b"\n" + key) as path:
        # The wrong password makes an encrypted key fail; without any, OpenSSL would prompt on the terminal.
        context.load_cert_chain(path, password="-")  # noqa: S106
    return context


@contextmanager
def _in_a_file(content: bytes) -> Iterator[str]:
    """ssl reads keys and certificates from files only. Those of Lares can change between two reads, so it
    gets what was read before: where the kernel can, in a file that exists in memory alone."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("certificate"), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
