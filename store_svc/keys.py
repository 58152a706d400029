"""API keys. Their plain text is told once; the store keeps their SHA-256."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4, uuid5

from lares.store.v1.key_service_pb2 import Key
from mesh.durable_files import write_private
from mesh.identity import NAMESPACE
from mesh.problems import NotFound, Unauthenticated
from mesh.security import digest, new_secret
from store_svc import messages
from store_svc.database import Database

# One row for ever: an admin key made anew ends the one before.
ADMIN_ID = uuid5(NAMESPACE, "admin key")

_CREATE = "INSERT INTO api_keys (id, name, sha256, created_at) VALUES ($1, $2, $3, $4) RETURNING *"
_LIST = "SELECT * FROM api_keys ORDER BY created_at, id"
_REVOKE = "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1 RETURNING *"
_VERIFY = "SELECT * FROM api_keys WHERE sha256 = $1 AND revoked_at IS NULL"
_REPLACE_ADMIN = """
    INSERT INTO api_keys (id, name, sha256, created_at) VALUES ($1, 'admin', $2, $3)
    ON CONFLICT (id) DO UPDATE SET sha256 = $2, created_at = $3, revoked_at = NULL
"""


class Keys:
    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def create(self, name: str) -> tuple[Key, str]:
        """The key and its plain text."""
        secret = new_secret()
        async with self._database.session() as connection:
            row = await connection.fetchrow(_CREATE, uuid4(), name, digest(secret), self._clock())
        assert row is not None  # what an INSERT returns
        return messages.key(row), secret

    async def all(self) -> list[Key]:
        """Oldest first, revoked ones included."""
        async with self._database.session() as connection:
            return [messages.key(row) for row in await connection.fetch(_LIST)]

    async def revoke(self, key_id: str) -> Key:
        """Ends a key; again, it changes nothing. Raises NotFound KEY_NOT_FOUND."""
        async with self._database.session() as connection:
            row = await connection.fetchrow(_REVOKE, key_id, self._clock())
        if row is None:
            raise NotFound("there is no such key", "KEY_NOT_FOUND", key_id=key_id)
        return messages.key(row)

    async def verify(self, sha256: str) -> Key:
        """Whose key this is. Looked up by its digest, so time tells nothing about a key. Raises
        Unauthenticated BAD_API_KEY for an unknown or revoked one."""
        async with self._database.session() as connection:
            row = await connection.fetchrow(_VERIFY, sha256)
        if row is None:
            raise Unauthenticated("this API key is unknown or revoked", "BAD_API_KEY")
        return messages.key(row)


async def ensure_admin_key(database: Database, file: Path) -> None:
    """Sees to it that `file` (mode 0600) holds the admin key in plain text, and makes both anew when either
    is missing or the key is revoked. The file comes first: after a kill in between, the next start finds no
    such key in the store and begins again. Stores that share a database must share the file."""
    async with database.session() as connection:
        secret = _read(file)
        if secret and await connection.fetchrow(_VERIFY, digest(secret)):
            file.chmod(0o600)
            return
        secret = new_secret()
        write_private(file, f"{secret}\n")
        await connection.execute(_REPLACE_ADMIN, ADMIN_ID, digest(secret), datetime.now(UTC))


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
