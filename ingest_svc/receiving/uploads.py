"""Receives uploads: spools and checks each photo or clip, stores it and announces it like a file's."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ingest_svc.admission import Admission
from ingest_svc.announcing import Announcer
from ingest_svc.clip_probing import ClipProbe, clip_times
from ingest_svc.facts import Fact, IngestedMedia, SourceCamera
from ingest_svc.file_importer import BlobSpool
from ingest_svc.formats.capture_time import CaptureSource, CaptureTime, capture_time, instant
from ingest_svc.formats.clip_container import ClipContainer
from ingest_svc.formats.inspection import MediaHeader, MediaLimits, inspect, inspect_head
from ingest_svc.formats.signature import SIGNATURE_BYTES
from ingest_svc.formats.time_in_name import time_in_name
from ingest_svc.receiving.arrivals import Arrivals
from ingest_svc.receiving.upload_slots import UploadSlots
from ingest_svc.rejection import RejectionCause, RejectReason
from ingest_svc.storage_state import StorageState
from ingest_svc.thread_pool import ThreadPool
from mesh.blobs import SpooledFile
from mesh.image_headers import FileBytes, ImageFormat
from mesh.image_metadata import ExifTime, exif_time
from mesh.problems import Invalid, Unavailable
from mesh.security import current_caller
from mesh.telemetry.spans import span

CHUNK_SECONDS = 30.0
# The longest that an upload of `size` bytes may take: GRACE_SECONDS + size / LEAST_SPEED.
GRACE_SECONDS, LEAST_SPEED = 15.0, 16 * 1024
ANNOUNCE_SECONDS = 45.0
# An upload has no file: these stand for its arrival.
OF_ARRIVAL = (CaptureSource.MTIME, CaptureSource.MTIME_LESS_DURATION, CaptureSource.CTIME)


@dataclass(frozen=True)
class DeclaredUpload:
    """What the header of an upload declares; `sha256` is in lower-case hex."""

    camera_id: str
    sha256: str
    size: int
    captured_at: datetime | None
    file_name: str = ""


class Uploads:
    """`chunk_seconds` is the longest wait for the next chunk of an upload, `grace_seconds` the longest that
    one without bytes could take."""

    def __init__(
        self,
        admission: Admission,
        limits: MediaLimits,
        blobs: BlobSpool,
        announcer: Announcer,
        arrivals: Arrivals,
        storage: StorageState,
        readers: ThreadPool,
        clips: ClipProbe,
        chunk_seconds: float = CHUNK_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._admission, self._limits = admission, limits
        self._blobs, self._announcer, self._readers = blobs, announcer, readers
        self._arrivals, self._storage, self._clips = arrivals, storage, clips
        self._chunk_seconds, self._grace_seconds = chunk_seconds, grace_seconds
        self._slots = UploadSlots()

    @property
    def in_progress(self) -> int:
        return len(self._slots)

    async def receive(
        self, declared: DeclaredUpload, chunks: AsyncIterator[bytes], headers: Mapping[str, str]
    ) -> str:
        """Returns the id of the media once it is durably announced.

        Raises Invalid with the name of a RejectReason, SIZE_MISMATCH or SHA256_MISMATCH; Denied OTHER_CAMERA;
        Conflict CAMERA_DELETED or CAMERA_DISABLED; Exhausted TOO_MANY_UPLOADS; Unavailable UPLOAD_STALLED,
        STORAGE_FAILED or NOT_ANNOUNCED.
        """
        if declared.size > (most := self._limits.most_bytes):
            detail = f"{declared.size} bytes; {most} are allowed"
            raise Invalid(detail, RejectReason.TOO_MANY_BYTES.value)
        camera = self._admission.of_upload(declared.camera_id, current_caller())
        try:
            async with self._slots.held(current_caller().id or declared.camera_id):
                return await self._receive(declared, camera, chunks, headers)
        except OSError as error:
            raise Unavailable(f"it cannot be stored now: {error.strerror}", "STORAGE_FAILED") from None

    async def _receive(
        self,
        declared: DeclaredUpload,
        camera: SourceCamera,
        chunks: AsyncIterator[bytes],
        headers: Mapping[str, str],
    ) -> str:
        async with self._blobs.spooled() as spooled:
            await self._write(spooled, declared.size, chunks)
            header, exif = await self._inspect(spooled, declared)
            media = _media(declared, camera, header, exif, datetime.now(UTC))
            if media.captured.source in OF_ARRIVAL:
                first = instant(await self._readers.run(self._arrivals.arrived, media.id))
                captured = _media(declared, camera, header, exif, first or media.ingested_at).captured
                media = replace(media, captured=captured)
            with span("store blob", {"lares.bytes": media.size}), self._storage.attempt():
                await spooled.store()
            media = replace(media, may_be_known=spooled.may_be_known)
        return await self._announce(media, headers)

    async def _inspect(
        self, spooled: SpooledFile, declared: DeclaredUpload
    ) -> tuple[MediaHeader, ExifTime | None]:
        """Raises Invalid."""
        header, exif = await self._readers.run(_check, spooled, self._limits, declared)
        if isinstance(header, ClipContainer):
            header = await self._clips.inspect(spooled.path, header)
        if isinstance(header, RejectionCause):
            raise Invalid(header.detail, header.reason.value)
        return header, exif

    async def _write(self, spooled: SpooledFile, size: int, chunks: AsyncIterator[bytes]) -> None:
        received, accepted = 0, False
        deadline = time.monotonic() + self._grace_seconds + size / LEAST_SPEED
        while chunk := await self._next(chunks, deadline):
            received += len(chunk)
            if received > size:
                break
            with self._storage.spooling():
                await self._readers.run(spooled.write, chunk)
            if not accepted and received >= SIGNATURE_BYTES:  # before the rest is sent in vain
                accepted = await self._readers.run(_check_head, spooled, self._limits, size)
        if not accepted and 0 < received <= size:
            await self._readers.run(_check_head, spooled, self._limits, size)
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

    async def _announce(self, media: IngestedMedia, headers: Mapping[str, str]) -> str:
        announcement = self._announcer.submit(media.camera.id, _immediately(media), headers=headers)
        try:
            async with asyncio.timeout(ANNOUNCE_SECONDS):
                await asyncio.shield(announcement.done)
        except TimeoutError:
            raise Unavailable("it is stored but not announced yet; send it again", "NOT_ANNOUNCED") from None
        if media.captured.source in OF_ARRIVAL:
            await self._readers.run(self._arrivals.announced, media.id)
        return media.id


def _check_head(spooled: SpooledFile, limits: MediaLimits, size: int) -> bool:
    """True. Raises Invalid."""
    form = inspect_head(spooled.read(0, SIGNATURE_BYTES), limits, size)
    if isinstance(form, RejectionCause):
        raise Invalid(form.detail, form.reason.value)
    return True


def _check(
    spooled: SpooledFile, limits: MediaLimits, declared: DeclaredUpload
) -> tuple[MediaHeader | ClipContainer | RejectionCause, ExifTime | None]:
    """The header, and when a photo says that it was taken. Raises Invalid."""
    if spooled.blob.sha256 != declared.sha256:
        raise Invalid("the content does not have the SHA-256 that the header declares", "SHA256_MISMATCH")
    content = FileBytes(spooled.read, spooled.blob.size)
    header = inspect(content, limits)
    if isinstance(header, MediaHeader) and isinstance(header.form, ImageFormat):
        return header, exif_time(content, header.form)
    return header, None


def _media(
    declared: DeclaredUpload,
    camera: SourceCamera,
    header: MediaHeader,
    exif: ExifTime | None,
    arrived: datetime,
) -> IngestedMedia:
    captured = _capture_time(declared, camera, header, exif, arrived)
    return IngestedMedia(camera, declared.sha256, declared.size, header, captured, ingested_at=arrived)


def _capture_time(
    declared: DeclaredUpload,
    camera: SourceCamera,
    header: MediaHeader,
    exif: ExifTime | None,
    arrived: datetime,
) -> CaptureTime:
    arrived_ns = int(arrived.timestamp() * 1_000_000) * 1000
    return capture_time(
        declared=declared.captured_at,
        exif=exif,
        zone=camera.zone,
        mtime_ns=arrived_ns,
        ctime_ns=arrived_ns,
        now=arrived,
        tolerance=camera.clock_tolerance,
        named=time_in_name(declared.file_name),
        clip=clip_times(header),
    )


async def _immediately(media: IngestedMedia) -> Fact:
    return media
