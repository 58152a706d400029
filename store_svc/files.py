"""What tells one state of one file from every other."""

import hashlib
from uuid import UUID

from lares.ingest.v1.media_pb2 import FileFingerprint
from store_svc.ids import uuid_of


def file_id(file: FileFingerprint) -> UUID:
    """The id in the table `files` of this path, size, mtime, ctime and inode."""
    numbers = f"{file.size_bytes}/{file.mtime_ns}/{file.ctime_ns}/{file.inode}"
    return uuid_of(hashlib.sha256(f"{numbers}/{file.path}".encode()).digest()[:16])
