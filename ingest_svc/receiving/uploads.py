"""Receives uploads: spools and checks each photo, stores it and announces it like a file's."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ingest_svc.admission import Admission
from ingest_svc.announcing import Announcer
from ingest_svc.facts import Fact, Photo, SourceCamera
from ingest_svc.file_importer import BlobSpool
from ingest_svc.formats.capture_time import CaptureSource, capture_time, instant
from ingest_svc.formats.inspection import PhotoHeader, PhotoLimits, inspect
from ingest_svc.receiving.arrivals import Arrivals
from ingest_svc.receiving.upload_slots import UploadSlots
from ingest_svc.rejection import RejectionCause, RejectReason
from ingest_svc.storage_state import StorageState
from ingest_svc.thread_pool import ThreadPool
from mesh.blobs import SpooledFile
from mesh.image_headers import ByteSource, FileBytes
from mesh.image_metadata import exif_time
from mesh.problems import Invalid, Unavailable
from mesh.security import current_caller
from mesh.telemetry.spans import span

CHUNK_SECONDS = 30.0
# The longest that an upload of `size` bytes may take: GRACE_SECONDS + size / LEAST_SPEED.
GRACE_SECONDS, LEAST_SPEED = 15.0, 16 * 1024
ANNOUNCE_SECONDS = 45.0
# An upload has no file: these stand for its arrival.
OF_ARRIVAL = (CaptureSource.MTIME, CaptureSource.CTIME)


@dataclass(frozen=True)
class DeclaredUpload:
    """What the header of an upload declares; `sha256` is in lower-case hex."""

    camera_id: str
    sha256: str
    size: int
    captured_at: datetime | None


class Uploads:
    """`chunk_seconds` is the longest wait for the next chunk of an upload, `grace_seconds` the longest that
    one without bytes could take."""

    def __init__(
        self,
        admission: Admission,
        limits: PhotoLimits,
        blobs: BlobSpool,
        announcer: Announcer,
        arrivals: Arrivals,
        storage: StorageState,
        readers: ThreadPool,
        chunk_seconds: float = CHUNK_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._admission, self._limits = admission, limits
        self._blobs, self._announcer, self._readers = blobs, announcer, readers
        self._arrivals, self._storage = arrivals, storage
        self._chunk_seconds, self._grace_seconds = chunk_seconds, grace_seconds
        self._slots = UploadSlots()

    @property
    def in_progress(self) -> int:
        return len(self._slots)

    async def receive(
        self, declared: DeclaredUpload, chunks: AsyncIterator[bytes], headers: Mapping[str, str]
    ) -> str:
        """Returns the id of the media once it is durably announced.

        Raises Invalid with the name of a RejectReason, SIZE_MISMATCH or SHA256_MISMATCH; Conflict
        CAMERA_DELETED or CAMERA_DISABLED; Exhausted TOO_MANY_UPLOADS; Unavailable UPLOAD_STALLED,
        STORAGE_FAILED or NOT_ANNOUNCED.
        """
        if declared.size > self._limits.bytes:
            detail = f"{declared.size} bytes; {self._limits.bytes} are allowed"
            raise Invalid(detail, RejectReason.TOO_MANY_BYTES.value)
        camera = self._admission.of_upload(declared.camera_id)
        try:
            async with self._slots.held(current_caller().id or declared.camera_id):
                return await self._receive(declared, camera, chunks, headers)
        except OSError as error:
            raise Unavailable(f"the photo cannot be stored now: {error.strerror}", "STORAGE_FAILED") from None

    async def _receive(
        self,
        declared: DeclaredUpload,
        camera: SourceCamera,
        chunks: AsyncIterator[bytes],
        headers: Mapping[str, str],
    ) -> str:
        async with self._blobs.spooled() as spooled:
            await self._write(spooled, declared.size, chunks)
            photo = await self._readers.run(_check, spooled, self._limits, declared, camera)
            if photo.captured.source in OF_ARRIVAL:
                arrived = instant(await self._readers.run(self._arrivals.arrived, photo.id))
                captured = replace(photo.captured, at=arrived or photo.captured.at)
                photo = replace(photo, captured=captured)
            with span("store blob", {"lares.bytes": photo.size}), self._storage.attempt():
                await spooled.store()
            photo = replace(photo, may_be_known=spooled.may_be_known)
        return await self._announce(photo, headers)

    async def _write(self, spooled: SpooledFile, size: int, chunks: AsyncIterator[bytes]) -> None:
        received = 0
        deadline = time.monotonic() + self._grace_seconds + size / LEAST_SPEED
        while chunk := await self._next(chunks, deadline):
            received += len(chunk)
            if received > size:
                break
            with self._storage.spooling():
                await self._readers.run(spooled.write, chunk)
        if received != size:
            raise Invalid(f"the header declares {size} bytes, but {received} arrived", "SIZE_MISMATCH")

    async def _next(self, chunks: AsyncIterator[bytes], deadline: float) -> bytes:
        """`deadline` is in monotonic seconds."""
        remaining = deadline - time.monotonic()
        try:
            async with asyncio.timeout(min(self._chunk_seconds, remaining)):
                return await anext(chunks, b"")
        except TimeoutError:
            slow = remaining < self._chunk_seconds
            detail = "the upload is too slow" if slow else f"no data arrived for {self._chunk_seconds:g} s"
            raise Unavailable(detail, "UPLOAD_STALLED") from None

    async def _announce(self, photo: Photo, headers: Mapping[str, str]) -> str:
        announcement = self._announcer.submit(photo.camera.id, _immediately(photo), headers=headers)
        try:
            async with asyncio.timeout(ANNOUNCE_SECONDS):
                await asyncio.shield(announcement.done)
        except TimeoutError:
            detail = "the photo is stored but not announced yet; send it again"
            raise Unavailable(detail, "NOT_ANNOUNCED") from None
        if photo.captured.source in OF_ARRIVAL:
            await self._readers.run(self._arrivals.announced, photo.id)
        return photo.id


def _check(
    spooled: SpooledFile, limits: PhotoLimits, declared: DeclaredUpload, camera: SourceCamera
) -> Photo:
    if spooled.blob.sha256 != declared.sha256:
        raise Invalid("the content does not have the SHA-256 that the header declares", "SHA256_MISMATCH")
    content = FileBytes(spooled.read, spooled.blob.size)
    header = inspect(content, limits)
    if isinstance(header, RejectionCause):
        raise Invalid(header.detail, header.reason.value)
    return _photo(content, header, declared, camera)


def _photo(content: ByteSource, header: PhotoHeader, declared: DeclaredUpload, camera: SourceCamera) -> Photo:
    now = datetime.now(UTC)
    arrived_ns = int(now.timestamp() * 1_000_000) * 1000
    captured = capture_time(
        declared=declared.captured_at,
        exif=exif_time(content, header.form),
        zone=camera.zone,
        mtime_ns=arrived_ns,
        ctime_ns=arrived_ns,
        now=now,
        tolerance=camera.clock_tolerance,
    )
    return Photo(camera, declared.sha256, declared.size, header, captured, ingested_at=now)


async def _immediately(photo: Photo) -> Fact:
    return photo
