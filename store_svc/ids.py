"""UUIDs in asyncpg's kind: a uuid.UUID that is read, hashed and written several times as fast."""

from uuid import UUID

from asyncpg.pgproto.pgproto import UUID as FastUUID


def parse_uuid(text: str) -> UUID:
    """Raises ValueError."""
    return FastUUID(text)


def uuid_of(data: bytes) -> UUID:
    """Of 16 bytes."""
    return FastUUID(data)
