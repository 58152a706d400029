"""Examines one file: whether it is unchanged, whether it is a photo or clip, its digest, and when it was
taken.

Of a clip only the structure of its container is examined here; `ingest_svc.clip_probing` opens it."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from io import FileIO
from pathlib import Path

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.facts import SourceCamera
from ingest_svc.fingerprint import Fingerprint, fingerprint, fingerprint_of_open_file, is_in_place
from ingest_svc.formats.capture_time import CaptureTime, ClipTimes, capture_time
from ingest_svc.formats.clip_container import ClipContainer, ClipEnd
from ingest_svc.formats.inspection import MediaHeader, MediaLimits, clip_end, inspect, inspect_head
from ingest_svc.formats.signature import SIGNATURE_BYTES
from ingest_svc.formats.time_in_name import time_in_name
from ingest_svc.rejection import OUTSIDE_LINK, RejectionCause, RejectReason
from mesh.blobs import Blob, SpooledFile
from mesh.blobs.spool import SpoolFailed, digest, read_at
from mesh.image_headers import ByteSource, FileBytes, ImageFormat, image_format
from mesh.image_metadata import ExifTime, exif_time

COMPARED_BYTES = 64 * 1024
# Errors that an unchanged file gives every time. Others have causes outside the file, and pass.
DENIED = {errno.EACCES, errno.EPERM}
PERMANENT_ERRORS = DENIED | {errno.EIO, errno.ELOOP, errno.ENAMETOOLONG}


@dataclass(frozen=True)
class ExaminedMedia:
    blob: Blob
    header: MediaHeader
    captured: CaptureTime


@dataclass(frozen=True)
class CompleteClip:
    """A clip in whose container nothing is missing, and that has not been opened."""

    blob: Blob
    container: ClipContainer


@dataclass(frozen=True)
class OpenEnded:
    """A clip of which nothing is missing, and whose container does not say whether more is to come."""


Examined = ExaminedMedia | CompleteClip | OpenEnded | RejectionCause | None


def examine(
    root: CamerasRoot,
    file: Fingerprint,
    camera: SourceCamera,
    limits: MediaLimits,
    spooled: SpooledFile | None = None,
    *,
    photos_only: bool = False,
    at_rest: bool = True,
) -> Examined:
    """None if the file is gone, cannot be looked at, or is no longer in the state that `file` describes; with
    `photos_only` also if it is a clip. OpenEnded only unless the file is `at_rest`: has not changed for long.

    A file that can be a photo or clip is copied to `spooled`, and the copy is examined. Raises OSError for an
    error that may pass.
    """
    if file.outside:
        return OUTSIDE_LINK
    try:
        with open(root / file.path, "rb", buffering=0, opener=_open) as stream:
            opened = fingerprint_of_open_file(file.path, stream.fileno())
            if not file.same_state(opened) or not is_in_place(root, file.path, stream.fileno()):
                return None
            head = inspect_head(read_at(stream.fileno(), 0, SIGNATURE_BYTES), limits, file.size)
            if isinstance(head, RejectionCause):
                return head
            if isinstance(head, ClipContainer):
                if photos_only:
                    return None
                # Before it is copied, because most of what is written over minutes is looked at often.
                end = clip_end(FileBytes(partial(read_at, stream.fileno()), file.size), head)
                if isinstance(end, RejectionCause) or (end is ClipEnd.OPEN and not at_rest):
                    return end if isinstance(end, RejectionCause) else OpenEnded()
            return _examine_content(stream, file, camera, limits, spooled)
    except SpoolFailed:
        raise
    except OSError as error:
        if not file.same_state(fingerprint(root, file.path)):
            return None  # perhaps it is a folder that may not be entered
        if root.is_linked(file.path) and not _can_be_listed(root.top(file.path)):
            return None  # so that no other camera waits until it is back
        if error.errno == errno.EIO:
            os.scandir(root.path).close()  # it is the whole folder that fails, perhaps
        if error.errno in DENIED and _may_be_read(root / file.path):
            return None  # perhaps a folder could not be entered just before
        if error.errno in PERMANENT_ERRORS:
            return RejectionCause(RejectReason.UNREADABLE, f"it cannot be read: {error.strerror}")
        raise


def _can_be_listed(folder: str) -> bool:
    try:
        os.scandir(folder).close()
    except OSError:
        return False
    return True


def _may_be_read(path: Path) -> bool:
    try:
        with open(path, "rb", buffering=0, opener=_open) as stream:
            read_at(stream.fileno(), 0, SIGNATURE_BYTES)
    except OSError:
        return False
    return True


def _examine_content(
    stream: FileIO, file: Fingerprint, camera: SourceCamera, limits: MediaLimits, spooled: SpooledFile | None
) -> Examined:
    read: Callable[[int, int], bytes] = partial(read_at, stream.fileno())
    if spooled is None:
        blob = digest(stream, file.size + 1)
    else:
        whole = spooled.copy(stream, file.size + 1)
        blob, read = spooled.blob, spooled.read if whole is None else partial(_part, whole)
    now = fingerprint_of_open_file(file.path, stream.fileno())
    if blob.size != file.size or not file.same_state(now):
        return None
    content = FileBytes(read, blob.size)
    header = inspect(content, limits)
    if isinstance(header, ClipContainer):
        return CompleteClip(blob, header)
    if isinstance(header, RejectionCause):
        return header
    return ExaminedMedia(blob, header, capture_time_of(file, camera, _exif_time(content, header.form)))


def _part(content: memoryview, start: int, length: int) -> bytes:
    return bytes(content[start : start + length])


def first_change(root: CamerasRoot, file: Fingerprint, copy: SpooledFile) -> int | None:
    """Where the file differs from `copy`, which was made of it in the state `file`: the first byte. 0 if it
    was replaced or cut off. None if it has not changed, or is not there."""
    now = fingerprint(root, file.path)
    if now is None or now.same_state(file):
        return None
    if now.inode != file.inode or now.size < copy.blob.size:
        return 0
    try:
        with open(root / file.path, "rb", buffering=0, opener=_open) as stream:
            for start in range(0, copy.blob.size, COMPARED_BYTES):
                was = copy.read(start, COMPARED_BYTES)
                found = read_at(stream.fileno(), start, len(was))
                if was != found:
                    return start + common_length(was, found)
    except SpoolFailed:
        raise
    except OSError:
        return None
    return None  # its time may change before its content does


def common_length(first: bytes, second: bytes) -> int:
    """How many bytes at the beginning are the same."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(first), len(second)))


def capture_time_of_file(root: CamerasRoot, file: Fingerprint, camera: SourceCamera) -> datetime:
    """The capture time that `examine` determines; of a clip, without what only its container says."""
    try:
        with open(root / file.path, "rb", buffering=0, opener=_open) as stream:
            content = FileBytes(partial(read_at, stream.fileno()), file.size)
            return capture_time_of(
                file, camera, _exif_time(content, image_format(content[:SIGNATURE_BYTES]))
            ).at
    except OSError:
        return capture_time_of(file, camera).at


def capture_time_of(
    file: Fingerprint,
    camera: SourceCamera,
    exif: ExifTime | None = None,
    clip: ClipTimes | None = None,
) -> CaptureTime:
    return capture_time(
        exif=exif,
        zone=camera.zone,
        mtime_ns=file.mtime_ns,
        ctime_ns=file.ctime_ns,
        now=datetime.now(UTC),
        tolerance=camera.clock_tolerance,
        named=time_in_name(file.path.partition("/")[2]),
        clip=clip,
    )


def _exif_time(content: ByteSource, form: ImageFormat | ClipContainer | None) -> ExifTime | None:
    return exif_time(content, form) if isinstance(form, ImageFormat) else None


def _open(path: str, flags: int) -> int:
    # O_NONBLOCK, because the file may have been replaced by a pipe.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
