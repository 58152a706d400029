"""TLS for connections to Kafka, with certificates that may be replaced while Lares runs."""

import hashlib
import ssl
from collections.abc import Sequence
from pathlib import Path

import structlog

from mesh.problems import Invalid

log = structlog.get_logger(__name__)


class TlsContext:
    """`current()` is made anew when a file has changed, so that new connections use what is in the files.

    `ca` may hold several CAs, such as an old one and its successor; None: the system's. `cert` and `key` are
    what a client shows, or None.
    """

    def __init__(self, ca: Path | None, cert: Path | None, key: Path | None) -> None:
        """Raises Invalid BAD_SETTING if the files cannot be used."""
        self._ca, self._cert, self._key = ca, cert, key
        self._seen = self._digest()
        self._context = self._load()

    def current(self) -> ssl.SSLContext:
        """Reads the files. If they cannot be used now, for example because only one of certificate and key
        has been replaced yet, logs that and returns the context of before."""
        try:
            seen = self._digest()
            if seen != self._seen:
                self._context, self._seen = self._load(), seen
        except Invalid as problem:
            log.warning("certificates for Kafka not usable, keeping the earlier ones", error=problem.message)
        return self._context

    def with_system_authorities(self) -> ssl.SSLContext:
        """For servers beside Kafka, which are often known to the system: trusts its CAs as well as `ca`."""
        context = ssl.create_default_context()
        if self._ca:
            context.load_verify_locations(self._ca)
        return context

    def _digest(self) -> bytes:
        digest = hashlib.sha256()
        for path in self._files():
            try:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
            except OSError as error:
                raise Invalid(f"cannot read {path}: {error.strerror}", "BAD_SETTING") from None
        return digest.digest()

    def _files(self) -> Sequence[Path]:
        return [path for path in (self._ca, self._cert, self._key) if path]

    def _load(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._ca)
        except OSError as error:  # ssl.SSLError is one
            raise Invalid(f"LARES_BUS_CA: no CA certificates in {self._ca}: {error}", "BAD_SETTING") from None
        if self._cert:
            try:
                # The wrong password makes an encrypted key fail; without any, OpenSSL would ask for it.
                context.load_cert_chain(self._cert, self._key, password="-")  # noqa: S106
            except OSError as error:
                raise Invalid(f"LARES_BUS_CERT, LARES_BUS_KEY: {error}", "BAD_SETTING") from None
        return context
