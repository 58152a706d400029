"""Opens connections to PostgreSQL, with the credentials as they are now."""

import time
from pathlib import Path
from typing import Any

import asyncpg
import structlog

from mesh.problems import Invalid, Unavailable
from mesh.retry import Backoff
from mesh.secret import Secret
from store_svc.database.address import DatabaseAddress
from store_svc.database.statement import Connection

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 10.0
# A server may lock out a user, or be busy with hashing passwords, if wrong ones come all the time.
REFUSED_BACKOFF = Backoff(1.0, 30.0)


class Connector:
    """The only code that opens connections, for the pool and for migrations."""

    def __init__(
        self, url: str | Secret, *, authority: Path | None = None, allow_plaintext: bool = True
    ) -> None:
        """Raises Invalid BAD_SETTING."""

        def parse(text: str) -> DatabaseAddress:
            address = DatabaseAddress.parse(text, authority)
            if not allow_plaintext:
                _require_protection(address)
            return address

        self._address = Secret.of(url).parsed(parse)
        try:
            self._address.value.options()
        except OSError as error:
            raise Invalid(
                f"LARES_DATABASE_CA, or a certificate in LARES_DATABASE_URL: {error}", "BAD_SETTING"
            ) from None
        self._refused: DatabaseAddress | None = None
        self._refusals, self._pause_until = 0, 0.0

    async def connect(self, **options: Any) -> Connection:
        """`options` are further arguments of asyncpg.connect.

        If the attempt fails and the setting's file has changed, makes another one. Raises Unavailable
        (DATABASE_REFUSED) if the server does not accept the login, for a while without asking it again;
        otherwise what asyncpg raises.
        """
        while True:
            address = self._address.value
            if address is self._refused and time.monotonic() < self._pause_until:
                if self._address.renewed(address):
                    continue
                raise _refused()
            try:
                connection: Connection = await asyncpg.connect(
                    **address.options(), **{"timeout": CONNECT_SECONDS, **options}
                )
            except asyncpg.InvalidAuthorizationSpecificationError as error:
                if self._address.renewed(address):
                    continue
                self._pause(address, error)
                raise _refused() from error
            except (asyncpg.PostgresError, OSError):
                if self._address.renewed(address):
                    continue
                raise
            self._refused, self._refusals = None, 0
            return connection

    def _pause(self, address: DatabaseAddress, error: Exception) -> None:
        self._refused, self._refusals = address, self._refusals + 1
        pause = REFUSED_BACKOFF.pause(self._refusals)
        self._pause_until = time.monotonic() + pause
        log.error("the database refuses the login", error=str(error), next_attempt=round(pause, 1))


def _require_protection(address: DatabaseAddress) -> None:
    if address.is_exposed:
        raise Invalid(
            "LARES_DATABASE_URL: passwords and data could be read in the network: add ?sslmode=verify-full,"
            " and LARES_DATABASE_CA unless a public authority has signed the server's certificate; or set"
            " LARES_ALLOW_PLAINTEXT=true",
            "BAD_SETTING",
        )


def _refused() -> Unavailable:
    return Unavailable("the database refuses the login of LARES_DATABASE_URL", "DATABASE_REFUSED")
