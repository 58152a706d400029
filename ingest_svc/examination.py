"""One look into one file: is it what was seen, is it a photo, what is its digest, when was it taken."""

import errno
import hashlib
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ingest_svc import exif
from ingest_svc.capture import Captured, captured
from ingest_svc.fingerprint import Fingerprint, of_open
from ingest_svc.inspection import Header, Kind, Limits, inspect
from ingest_svc.photo import Camera
from ingest_svc.refusal import LINK, Reason, Refusal
from ingest_svc.signature import LOOKED_AT

# What an unchanged file answers for ever; other errors are the system's, and pass.
UNREADABLE = {errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG}


@dataclass(frozen=True)
class Examined:
    """`source` is the file itself, without links; `content` is what was read from it."""

    source: Path
    content: bytes = field(repr=False)
    sha256: str
    header: Header
    captured: Captured


def examine(root: Path, file: Fingerprint, camera: Camera, limits: Limits) -> Examined | Refusal | None:
    """None where the file is gone, or no longer in the state of `file`. Raises OSError for what passes."""
    if file.outside:
        return LINK
    try:
        source = (root / file.path).resolve()
        content = _read(source, file, limits)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in UNREADABLE:
            return Refusal(Reason.UNREADABLE, f"it cannot be read: {error.strerror}")
        raise
    if content is None:
        return None
    header = inspect(content, limits, file.size)
    if isinstance(header, Refusal):
        return header
    when = _captured(content, header.kind, file, camera)
    return Examined(source, content, hashlib.sha256(content).hexdigest(), header, when)


def when_captured(root: Path, file: Fingerprint, camera: Camera) -> datetime:
    """When `examine` will say it was taken, from the file's beginning alone."""
    try:
        with open(root / file.path, "rb", opener=_open) as stream:
            content = stream.read(exif.LOOKED_AT)
    except OSError:
        content = b""
    kind = Kind.JPEG if content.startswith(b"\xff\xd8") else Kind.PNG
    return _captured(content, kind, file, camera).at


def _captured(content: bytes, kind: Kind, file: Fingerprint, camera: Camera) -> Captured:
    return captured(
        taken=exif.taken(content) if kind is Kind.JPEG else None,
        zone=camera.zone,
        mtime_ns=file.mtime_ns,
        ctime_ns=file.ctime_ns,
        now=datetime.now(UTC),
    )


def _read(source: Path, file: Fingerprint, limits: Limits) -> bytes | None:
    """The whole file, or its beginning where it is too large; None where it is another by now."""
    with open(source, "rb", opener=_open) as stream:
        if not file.same_state(of_open(file.path, stream.fileno())):
            return None
        if file.size > limits.bytes:
            return stream.read(LOOKED_AT)
        content = stream.read(file.size + 1)
        return content if len(content) == file.size else None


def _open(path: str, flags: int) -> int:
    # Without waiting: what was a file may have become a pipe.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
