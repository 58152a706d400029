"""Receives uploads: spools and checks each photo, stores it and announces it like a file's."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ingest_svc.admission import Admission
from ingest_svc.announcing import Announcer
from ingest_svc.facts import Fact, Photo, SourceCamera
from ingest_svc.file_importer import BlobSpool
from ingest_svc.formats.capture_time import capture_time
from ingest_svc.formats.inspection import PhotoHeader, PhotoLimits, inspect
from ingest_svc.rejection import RejectionCause, RejectReason
from ingest_svc.thread_pool import ThreadPool
from mesh.blobs import SpooledFile
from mesh.image_headers import ByteSource, FileBytes
from mesh.image_metadata import exif_time
from mesh.problems import Exhausted, Invalid, Unavailable
from mesh.telemetry.spans import span

MAX_UPLOADS = 8
CHUNK_SECONDS = 30.0
ANNOUNCE_SECONDS = 45.0


@dataclass(frozen=True)
class DeclaredUpload:
    """What the header of an upload declares; `sha256` is in lower-case hex."""

    camera_id: str
    sha256: str
    size: int
    captured_at: datetime | None


class Uploads:
    """`chunk_seconds` is the longest wait for the next chunk of an upload."""

    def __init__(
        self,
        admission: Admission,
        limits: PhotoLimits,
        blobs: BlobSpool,
        announcer: Announcer,
        readers: ThreadPool,
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> None:
        self._admission, self._limits = admission, limits
        self._blobs, self._announcer, self._readers = blobs, announcer, readers
        self._chunk_seconds = chunk_seconds
        self.in_progress = 0

    async def receive(
        self, declared: DeclaredUpload, chunks: AsyncIterator[bytes], headers: Mapping[str, str]
    ) -> str:
        """Returns the id of the media once it is durably announced.

        Raises Invalid with the name of a RejectReason, SIZE_MISMATCH or SHA256_MISMATCH; Conflict
        CAMERA_DELETED or CAMERA_DISABLED; Exhausted TOO_MANY_UPLOADS; Unavailable UPLOAD_STALLED,
        STORAGE_FAILED or NOT_ANNOUNCED.
        """
        if self.in_progress >= MAX_UPLOADS:
            raise Exhausted(f"{MAX_UPLOADS} uploads are in progress; try again", "TOO_MANY_UPLOADS")
        if declared.size > self._limits.bytes:
            detail = f"{declared.size} bytes; {self._limits.bytes} are allowed"
            raise Invalid(detail, RejectReason.TOO_MANY_BYTES.value)
        camera = self._admission.of_upload(declared.camera_id)
        self.in_progress += 1
        try:
            async with self._blobs.spooled() as spooled:
                await self._write(spooled, declared.size, chunks)
                photo = await self._readers.run(_check, spooled, self._limits, declared, camera)
                with span("store blob", {"lares.bytes": photo.size}):
                    await spooled.store()
            return await self._announce(photo, headers)
        except OSError as error:
            raise Unavailable(f"the photo cannot be stored now: {error.strerror}", "STORAGE_FAILED") from None
        finally:
            self.in_progress -= 1

    async def _write(self, spooled: SpooledFile, size: int, chunks: AsyncIterator[bytes]) -> None:
        received = 0
        while chunk := await self._next(chunks):
            received += len(chunk)
            if received > size:
                break
            await self._readers.run(spooled.write, chunk)
        if received != size:
            raise Invalid(f"the header declares {size} bytes, but {received} arrived", "SIZE_MISMATCH")

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes:
        try:
            async with asyncio.timeout(self._chunk_seconds):
                return await anext(chunks, b"")
        except TimeoutError:
            raise Unavailable(f"no data arrived for {self._chunk_seconds:g} s", "UPLOAD_STALLED") from None

    async def _announce(self, photo: Photo, headers: Mapping[str, str]) -> str:
        announcement = self._announcer.submit(photo.camera.id, _immediately(photo), headers=headers)
        try:
            async with asyncio.timeout(ANNOUNCE_SECONDS):
                await asyncio.shield(announcement.done)
        except TimeoutError:
            detail = "the photo is stored but not announced yet; send it again"
            raise Unavailable(detail, "NOT_ANNOUNCED") from None
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
    )
    return Photo(camera, declared.sha256, declared.size, header, captured, ingested_at=now)


async def _immediately(photo: Photo) -> Fact:
    return photo
