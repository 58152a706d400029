"""One look into one file: is it what was seen, is it a photo, what is its digest, when was it taken."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from io import FileIO
from pathlib import Path

from ingest_svc import exif
from ingest_svc.capture import Captured, captured
from ingest_svc.content import Content, FileContent
from ingest_svc.fingerprint import Fingerprint, of_open
from ingest_svc.inspection import Header, Kind, Limits, inspect, inspect_head
from ingest_svc.photo import Camera
from ingest_svc.refusal import LINK, Reason, Refusal
from ingest_svc.signature import LOOKED_AT
from mesh.blobs import Blob, SpooledFile
from mesh.blobs.spool import SpoolFailed, digest, read_at

# What an unchanged file answers for ever; other errors are the system's, and pass.
UNREADABLE = {errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG}


@dataclass(frozen=True)
class Examined:
    blob: Blob
    header: Header
    captured: Captured


def examine(
    root: Path, file: Fingerprint, camera: Camera, limits: Limits, spooled: SpooledFile | None = None
) -> Examined | Refusal | None:
    """None where the file is gone, or no longer in the state of `file`. What may be a photo is written to
    `spooled`, and it is the copy that is judged. Raises OSError for what passes."""
    if file.outside:
        return LINK
    try:
        with open((root / file.path).resolve(), "rb", buffering=0, opener=_open) as stream:
            if not file.same_state(of_open(file.path, stream.fileno())):
                return None
            head = inspect_head(read_at(stream.fileno(), 0, LOOKED_AT), limits, file.size)
            if isinstance(head, Refusal):
                return head
            return _examined(stream, file, camera, limits, spooled)
    except FileNotFoundError:
        return None
    except SpoolFailed:
        raise
    except OSError as error:
        if error.errno in UNREADABLE:
            return Refusal(Reason.UNREADABLE, f"it cannot be read: {error.strerror}")
        raise


def _examined(
    stream: FileIO, file: Fingerprint, camera: Camera, limits: Limits, spooled: SpooledFile | None
) -> Examined | Refusal | None:
    read: Callable[[int, int], bytes] = partial(read_at, stream.fileno())
    if spooled is None:
        blob = digest(stream, file.size + 1)
    else:
        spooled.copy(stream, file.size + 1)
        blob, read = spooled.blob, spooled.read
    if blob.size != file.size or not file.same_state(of_open(file.path, stream.fileno())):
        return None
    content = FileContent(read, blob.size)
    header = inspect(content, limits)
    if isinstance(header, Refusal):
        return header
    return Examined(blob, header, _captured(content, header.kind, file, camera))


def when_captured(root: Path, file: Fingerprint, camera: Camera) -> datetime:
    """When `examine` will say it was taken, from the file's beginning alone."""
    try:
        with open(root / file.path, "rb", opener=_open) as stream:
            content = stream.read(exif.LOOKED_AT)
    except OSError:
        content = b""
    kind = Kind.JPEG if content.startswith(b"\xff\xd8") else Kind.PNG
    return _captured(content, kind, file, camera).at


def _captured(content: Content, kind: Kind, file: Fingerprint, camera: Camera) -> Captured:
    return captured(
        taken=exif.taken(content) if kind is Kind.JPEG else None,
        zone=camera.zone,
        mtime_ns=file.mtime_ns,
        ctime_ns=file.ctime_ns,
        now=datetime.now(UTC),
    )


def _open(path: str, flags: int) -> int:
    # Without waiting: what was a file may have become a pipe.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
