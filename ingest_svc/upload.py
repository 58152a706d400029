"""Photos that come by wire: received to a file, checked, and announced like any other."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ingest_svc import exif
from ingest_svc.admission import Admission
from ingest_svc.announcing import Announcer
from ingest_svc.capture import captured
from ingest_svc.content import Content, FileContent
from ingest_svc.inspection import Header, Kind, Limits, inspect
from ingest_svc.intake import BlobStore
from ingest_svc.photo import Camera, Fact, Photo
from ingest_svc.refusal import Reason, Refusal
from ingest_svc.threads import Threads
from mesh.blobs import SpooledFile
from mesh.problems import Exhausted, Invalid, Unavailable
from mesh.telemetry.spans import span

MOST_AT_ONCE = 8
CHUNK_SECONDS = 30.0
ANNOUNCE_SECONDS = 45.0


@dataclass(frozen=True)
class Declared:
    """What the uploader says of the content to come; `sha256` in lower-case hex."""

    camera_id: str
    sha256: str
    size: int
    captured_at: datetime | None


class Uploads:
    def __init__(
        self,
        admission: Admission,
        limits: Limits,
        blobs: BlobStore,
        announcer: Announcer,
        threads: Threads,
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> None:
        self._admission, self._limits = admission, limits
        self._blobs, self._announcer, self._threads = blobs, announcer, threads
        self._chunk_seconds = chunk_seconds
        self.under_way = 0

    async def receive(
        self, declared: Declared, chunks: AsyncIterator[bytes], headers: Mapping[str, str]
    ) -> str:
        """The media's id, once it is durably announced. Raises Invalid with the Reason's name, or
        SIZE_MISMATCH, SHA256_MISMATCH; Conflict CAMERA_DELETED, CAMERA_DISABLED; Exhausted
        TOO_MANY_UPLOADS; Unavailable UPLOAD_STALLED, STORAGE_FAILED,
        NOT_ANNOUNCED."""
        if self.under_way >= MOST_AT_ONCE:
            raise Exhausted(f"{MOST_AT_ONCE} uploads are under way; try again", "TOO_MANY_UPLOADS")
        if declared.size > self._limits.bytes:
            raise Invalid(
                f"{declared.size} bytes; {self._limits.bytes} are allowed", Reason.TOO_MANY_BYTES.value
            )
        camera = self._admission.of_upload(declared.camera_id)
        self.under_way += 1
        try:
            async with self._blobs.spooled() as spooled:
                await self._write(spooled, declared.size, chunks)
                photo = await self._threads.run(_checked, spooled, self._limits, declared, camera)
                with span("store blob", {"lares.bytes": photo.size}):
                    await spooled.store()
            return await self._announced(photo, headers)
        except OSError as error:
            raise Unavailable(f"it cannot be stored now: {error.strerror}", "STORAGE_FAILED") from None
        finally:
            self.under_way -= 1

    async def _write(self, spooled: SpooledFile, size: int, chunks: AsyncIterator[bytes]) -> None:
        received = 0
        while chunk := await self._next(chunks):
            received += len(chunk)
            if received > size:
                break
            await self._threads.run(spooled.write, chunk)
        if received != size:
            raise Invalid(f"the header says {size} bytes, but {received} came", "SIZE_MISMATCH")

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes:
        try:
            async with asyncio.timeout(self._chunk_seconds):
                return await anext(chunks, b"")
        except TimeoutError:
            raise Unavailable(f"nothing came for {self._chunk_seconds:g} s", "UPLOAD_STALLED") from None

    async def _announced(self, photo: Photo, headers: Mapping[str, str]) -> str:
        announcement = self._announcer.submit(photo.camera.id, _itself(photo), headers=headers)
        try:
            async with asyncio.timeout(ANNOUNCE_SECONDS):
                await asyncio.shield(announcement.done)
        except TimeoutError:
            raise Unavailable("it is stored, but not announced yet: send it again", "NOT_ANNOUNCED") from None
        return photo.id


def _checked(spooled: SpooledFile, limits: Limits, declared: Declared, camera: Camera) -> Photo:
    if spooled.blob.sha256 != declared.sha256:
        raise Invalid("the content is not what the header's sha256 says", "SHA256_MISMATCH")
    content = FileContent(spooled.read, spooled.blob.size)
    header = inspect(content, limits)
    if isinstance(header, Refusal):
        raise Invalid(header.detail, header.reason.value)
    return _photo(content, header, declared, camera)


def _photo(content: Content, header: Header, declared: Declared, camera: Camera) -> Photo:
    now = datetime.now(UTC)
    arrived = int(now.timestamp() * 1_000_000) * 1000
    when = captured(
        declared=declared.captured_at,
        taken=exif.taken(content) if header.kind is Kind.JPEG else None,
        zone=camera.zone,
        mtime_ns=arrived,
        ctime_ns=arrived,
        now=now,
    )
    return Photo(camera, declared.sha256, declared.size, header, when, ingested_at=now)


async def _itself(photo: Photo) -> Fact:
    return photo
