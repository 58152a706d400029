"""What arrived of uploads whose connections were lost is kept, so that their clients can go on."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from io import FileIO
from typing import NamedTuple

import structlog

from ingest_svc.receiving.disk_quota import DiskQuota, Reservation
from ingest_svc.thread_pool import ThreadPool
from mesh.blobs import Blobs, SpooledFile
from mesh.problems import Conflict, Exhausted, Invalid

log = structlog.get_logger(__name__)

KEPT_SECONDS = 24 * 3600.0
CLEANING_SECONDS = 3600.0
# A second connection waits for the first one, which notices within CHUNK_SECONDS that its client is gone.
WAITING_SECONDS, POLL_SECONDS = 45.0, 0.05


class UploadKey(NamedTuple):
    """Names an upload of one caller."""

    caller_id: str
    camera_id: str
    sha256: str

    @property
    def part(self) -> str:
        """The name of what is kept of it. The camera is told apart, since parts count by camera."""
        return f"{self.camera_id}.{hashlib.sha256('/'.join(self).encode()).hexdigest()}"


class Received(NamedTuple):
    size: int
    expires_at: datetime | None


class CutOff(Invalid):
    """Fewer bytes arrived than were declared. A connection that is lost may look like this, too."""


class PartialUploads:
    def __init__(self, blobs: Blobs, quota: DiskQuota, readers: ThreadPool) -> None:
        self._blobs, self._quota, self._readers = blobs, quota, readers
        self._active: set[str] = set()

    async def find(self, key: UploadKey) -> Received:
        """How much has arrived, also of one that is in progress. Raises OSError."""
        part = await self._readers.run(lambda: self._blobs.partial.find(key.part))
        if part is None or not part.size or _is_expired(part.written_at):
            return Received(0, None)
        return Received(part.size, datetime.fromtimestamp(part.written_at + KEPT_SECONDS, UTC))

    @asynccontextmanager
    async def continued(
        self, key: UploadKey, size: int, offset: int
    ) -> AsyncIterator[tuple[SpooledFile, Reservation]]:
        """Yields the file with the first `offset` of its `size` bytes, of which all that is written is kept
        if the block ends before the content is stored; but not after Invalid, unless it was cut off: it is
        of no use.

        Raises Conflict OFFSET_MISMATCH, Exhausted UPLOAD_IN_PROGRESS or UPLOAD_QUOTA, Unavailable DISK_FULL,
        OSError.
        """
        async with self._alone(key.part):
            with self._quota.arriving(key.camera_id, key.part) as reservation:
                reservation.written = offset
                await self._quota.reserve(reservation, size)
                file = await self._opened(key.part, offset)
                async with self._blobs.spooled(file) as spooled:
                    try:
                        yield spooled, reservation
                    except Invalid as error:
                        spooled.kept = isinstance(error, CutOff)
                        raise

    async def clean(self) -> None:
        """Removes what has expired."""
        try:
            await self._readers.run(lambda: self._blobs.partial.remove_older(KEPT_SECONDS))
        except OSError as error:
            log.warning("partial uploads not cleaned", error=str(error))

    async def keep_clean(self) -> None:
        while True:
            await asyncio.sleep(CLEANING_SECONDS)
            await self.clean()

    @asynccontextmanager
    async def _alone(self, part: str) -> AsyncIterator[None]:
        deadline = time.monotonic() + WAITING_SECONDS
        while part in self._active:
            await _wait(deadline)
        self._active.add(part)
        try:
            yield
        finally:
            self._active.discard(part)

    async def _opened(self, part: str, offset: int) -> FileIO:
        deadline = time.monotonic() + WAITING_SECONDS
        while True:
            opening = asyncio.ensure_future(self._readers.run(self._open, part, offset))
            try:
                file = await asyncio.shield(opening)
            except asyncio.CancelledError:
                opening.add_done_callback(_close)
                raise
            if file is not None:
                return file
            await _wait(deadline)  # for a thread that still writes, or another process

    def _open(self, part: str, offset: int) -> FileIO | None:
        """None while another writes it."""
        file = self._blobs.partial.open(part)
        if file is None:
            return None
        try:
            if offset == 0 or _is_expired(os.fstat(file.fileno()).st_mtime):
                file.truncate(0)
                file.seek(0)
            if (received := file.tell()) != offset:
                if not received:
                    os.unlink(str(file.name))
                raise Conflict(
                    f"{received} bytes of this upload have arrived, not {offset}",
                    "OFFSET_MISMATCH",
                    received_bytes=str(received),
                )
        except BaseException:
            file.close()
            raise
        return file


def _is_expired(written_at: float) -> bool:
    return time.time() - written_at > KEPT_SECONDS


async def _wait(deadline: float) -> None:
    """Raises Exhausted after the deadline, which is in monotonic seconds."""
    if time.monotonic() > deadline:
        raise Exhausted("another connection sends the same upload", "UPLOAD_IN_PROGRESS")
    await asyncio.sleep(POLL_SECONDS)


def _close(opening: "asyncio.Future[FileIO | None]") -> None:
    with suppress(BaseException):
        if (file := opening.result()) is not None:
            file.close()
