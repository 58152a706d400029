"""Receives uploads: spools and checks each photo or clip, stores it and announces it like a file's."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ingest_svc.admission import Admission
from ingest_svc.announcing import Announcer
from ingest_svc.clip_probing import ClipProbe, clip_times
from ingest_svc.facts import Fact, IngestedMedia, SourceCamera
from ingest_svc.formats.capture_time import CaptureSource, CaptureTime, capture_time
from ingest_svc.formats.clip_container import ClipContainer
from ingest_svc.formats.inspection import MediaHeader, MediaLimits, inspect, inspect_head
from ingest_svc.formats.signature import SIGNATURE_BYTES
from ingest_svc.formats.time_in_name import time_in_name
from ingest_svc.receiving.disk_space import DiskSpace, Reservation
from ingest_svc.receiving.upload_progress import ArrivingUpload, CutOff, UploadProgress
from ingest_svc.receiving.upload_records import Received, UploadKey
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
# For how long those that are interrupted are waited for: what has arrived of them is kept.
INTERRUPT_SECONDS = 5.0
SIZE_MISMATCH = "SIZE_MISMATCH"
# Content of unknown size reserves the disk in steps.
UNDECLARED_BYTES = 2**20
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


@dataclass(frozen=True)
class UndeclaredUpload:
    """What is known of content whose sender declares nothing about it. `size` is None if it is not known."""

    camera_id: str
    file_name: str
    size: int | None


class Uploads:
    """`chunk_seconds` is the longest wait for the next chunk of an upload, `grace_seconds` the longest that
    one without bytes could take."""

    def __init__(
        self,
        admission: Admission,
        limits: MediaLimits,
        announcer: Announcer,
        storage: StorageState,
        readers: ThreadPool,
        clips: ClipProbe,
        progress: UploadProgress,
        space: DiskSpace,
        chunk_seconds: float = CHUNK_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._admission, self._limits = admission, limits
        self._progress, self._space, self._announcer = progress, space, announcer
        self._storage, self._readers, self._clips = storage, readers, clips
        self._chunk_seconds, self._grace_seconds = chunk_seconds, grace_seconds
        self._slots = UploadSlots()
        self._waits = set[asyncio.Timeout]()
        self._interrupted = False

    @property
    def in_progress(self) -> int:
        return len(self._slots)

    async def receive(
        self,
        declared: DeclaredUpload,
        chunks: AsyncIterator[bytes],
        headers: Mapping[str, str],
        offset: int = 0,
    ) -> str:
        """Returns the id of the media once it is durably announced. `chunks` continue the first `offset`
        bytes, which have arrived before.

        Raises Invalid with the name of a RejectReason, SIZE_MISMATCH or SHA256_MISMATCH; Denied OTHER_CAMERA;
        Conflict CAMERA_DELETED, CAMERA_DISABLED, OFFSET_MISMATCH or UPLOAD_TAKEN_OVER; Exhausted
        TOO_MANY_UPLOADS, UPLOAD_IN_PROGRESS or UPLOAD_QUOTA; Unavailable UPLOAD_STALLED, DISK_FULL,
        STORE_AWAY, STORAGE_FAILED or NOT_ANNOUNCED. Of what may be sent again, all that has arrived is kept.
        """
        self._require_size(declared.size)
        key, camera = self._admitted(declared.camera_id, declared.sha256)
        async with self._receiving(camera):
            async with self._progress.arriving(key, declared.size, offset) as (upload, reservation):
                await self._write(upload, reservation, declared.size, chunks)
                media = await self._store(upload, declared, camera)
                await self._announce(media, headers)
            return media.id

    async def receive_undeclared(
        self, undeclared: UndeclaredUpload, chunks: AsyncIterator[bytes], headers: Mapping[str, str]
    ) -> str:
        """Like `receive`, for a sender that cannot go on: nothing is kept of an upload that fails."""
        self._require_size(undeclared.size or 0)
        key, camera = self._admitted(undeclared.camera_id)
        expected = UNDECLARED_BYTES if undeclared.size is None else undeclared.size
        async with self._receiving(camera):
            async with self._progress.arriving(key, expected) as (upload, reservation):
                await self._write(upload, reservation, undeclared.size, chunks)
                blob = (await upload.whole()).blob
                declared = DeclaredUpload(
                    undeclared.camera_id, blob.sha256, blob.size, None, undeclared.file_name
                )
                media = await self._store(upload, declared, camera)
                await self._announce(media, headers)
            return media.id

    async def interrupt(self) -> None:
        """Ends uploads whose rest has not arrived, and takes no more: this process is about to end. Their
        clients go on at another process."""
        self._interrupted = True
        for wait in self._waits:
            wait.reschedule(0)
        with suppress(TimeoutError):
            async with asyncio.timeout(INTERRUPT_SECONDS):
                await self._slots.until_none()

    def admit(self, camera_id: str) -> None:
        """Raises what `receive` raises for the camera."""
        self._admitted(camera_id)

    async def received(self, camera_id: str, sha256: str) -> Received:
        """How much of an upload has arrived. Raises what `receive` raises for the camera, and Unavailable
        STORE_AWAY."""
        key, _ = self._admitted(camera_id, sha256)
        return await self._progress.find(key)

    def _require_size(self, size: int) -> None:
        if size > (most := self._limits.most_bytes):
            raise Invalid(f"{size} bytes; {most} are allowed", RejectReason.TOO_MANY_BYTES.value)

    def _admitted(self, camera_id: str, sha256: str = "") -> tuple[UploadKey, SourceCamera]:
        caller = current_caller()
        return UploadKey(caller.id, camera_id, sha256), self._admission.of_upload(camera_id, caller)

    @asynccontextmanager
    async def _receiving(self, camera: SourceCamera) -> AsyncIterator[None]:
        try:
            async with self._slots.held(current_caller().id or camera.id):
                yield
        except OSError as error:
            raise Unavailable(f"it cannot be stored now: {error.strerror}", "STORAGE_FAILED") from None

    async def _store(
        self, upload: ArrivingUpload, declared: DeclaredUpload, camera: SourceCamera
    ) -> IngestedMedia:
        """Raises Invalid."""
        spooled = await upload.whole()
        header, exif = await self._inspect(spooled, declared)
        media = _media(declared, camera, header, exif, datetime.now(UTC))
        if media.captured.source in OF_ARRIVAL:
            first = await upload.first_arrival(declared.sha256)
            media = replace(media, captured=_media(declared, camera, header, exif, first).captured)
        with span("store blob", {"lares.bytes": media.size}), self._storage.attempt():
            await spooled.store()
        return replace(media, may_be_known=spooled.may_be_known)

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

    async def _write(
        self, upload: ArrivingUpload, reservation: Reservation, size: int | None, chunks: AsyncIterator[bytes]
    ) -> None:
        """Continues the content with `chunks`, to `size` bytes, or as many as there are."""
        begun = upload.size
        started, most = time.monotonic(), None
        if begun >= SIGNATURE_BYTES:
            most = await self._most_bytes(upload, size or begun)
        while True:
            lasting = ((upload.size if size is None else size) - begun) / LEAST_SPEED
            chunk = await self._next(chunks, started + self._grace_seconds + lasting)
            if not chunk:
                break
            received = upload.size + len(chunk)
            if size is not None and received > size:
                raise Invalid(_wrong_size(size, received), SIZE_MISMATCH)
            if most is not None and received > most:
                raise Invalid(
                    f"more than the {most} bytes that are allowed", RejectReason.TOO_MANY_BYTES.value
                )
            if received > reservation.size:
                await self._space.reserve(reservation, received + UNDECLARED_BYTES)
                await upload.reserve(received + UNDECLARED_BYTES)
            await upload.write(chunk)
            reservation.written = received
            if most is None and received >= SIGNATURE_BYTES:  # before the rest is sent in vain
                most = await self._most_bytes(upload, size or received)
        if most is None and upload.size:
            await self._most_bytes(upload, size or upload.size)
        if size is not None and upload.size != size:
            kind = CutOff if upload.size < size else Invalid
            raise kind(_wrong_size(size, upload.size), SIZE_MISMATCH)
        if not upload.size:
            raise Invalid("it is empty", RejectReason.ZERO_BYTE.value)

    async def _most_bytes(self, upload: ArrivingUpload, size: int) -> int:
        """The largest size that is allowed for what its beginning says it is. Raises Invalid."""
        form = inspect_head(await upload.head(SIGNATURE_BYTES), self._limits, size)
        if isinstance(form, RejectionCause):
            raise Invalid(form.detail, form.reason.value)
        return self._limits.bytes if isinstance(form, ImageFormat) else self._limits.clip_bytes

    async def _next(self, chunks: AsyncIterator[bytes], deadline: float) -> bytes:
        """`deadline` is in monotonic seconds."""
        remaining = deadline - time.monotonic()
        try:
            async with asyncio.timeout(
                0 if self._interrupted else min(self._chunk_seconds, remaining)
            ) as wait:
                self._waits.add(wait)
                try:
                    return await anext(chunks, b"")
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            if self._interrupted:
                raise Unavailable("this process is about to end; go on at another", "STOPPING") from None
            slow = remaining < self._chunk_seconds
            detail = "the upload is too slow" if slow else f"no data arrived for {self._chunk_seconds:g} s"
            raise Unavailable(detail, "UPLOAD_STALLED") from None

    async def _announce(self, media: IngestedMedia, headers: Mapping[str, str]) -> None:
        announcement = self._announcer.submit(media.camera.id, _immediately(media), headers=headers)
        try:
            async with asyncio.timeout(ANNOUNCE_SECONDS):
                await asyncio.shield(announcement.done)
        except TimeoutError:
            raise Unavailable("it is stored but not announced yet; send it again", "NOT_ANNOUNCED") from None


def _wrong_size(declared: int, received: int) -> str:
    return f"the header declares {declared} bytes, but {received} arrived"


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
