"""Slugs, and UUIDs as asyncpg's own type, which is parsed, hashed and written several times as fast."""

import hashlib
import re
from uuid import UUID

from asyncpg.pgproto.pgproto import UUID as FastUUID

from lares.ingest.v1.media_pb2 import FileFingerprint

# The ids of cameras, and of zones, lines and masks.
SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def parse_uuid(text: str) -> UUID:
    """Raises ValueError if `text` is not a UUID."""
    return FastUUID(text)


def file_id(file: FileFingerprint) -> UUID:
    """The id in the table `files` of one state of a file: its path, size, mtime, ctime and inode."""
    numbers = f"{file.size_bytes}/{file.mtime_ns}/{file.ctime_ns}/{file.inode}"
    return FastUUID(hashlib.sha256(f"{numbers}/{file.path}".encode()).digest()[:16])
