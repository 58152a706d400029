"""UUIDs as asyncpg's own type, a `uuid.UUID` that is parsed, hashed and written several times as fast."""

import hashlib
from uuid import UUID

from asyncpg.pgproto.pgproto import UUID as FastUUID

from lares.ingest.v1.media_pb2 import FileFingerprint


def parse_uuid(text: str) -> UUID:
    """Raises ValueError if `text` is not a UUID."""
    return FastUUID(text)


def file_id(file: FileFingerprint) -> UUID:
    """The id in the table `files` of one state of a file: its path, size, mtime, ctime and inode."""
    numbers = f"{file.size_bytes}/{file.mtime_ns}/{file.ctime_ns}/{file.inode}"
    return FastUUID(hashlib.sha256(f"{numbers}/{file.path}".encode()).digest()[:16])
