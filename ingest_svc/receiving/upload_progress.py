"""What has arrived of uploads is kept in parts among the blobs, so that their clients can go on after a lost
connection, at any process of ingest_svc, and after a kill."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Collection, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any

import structlog

from ingest_svc.receiving.disk_space import DiskSpace, Reservation
from ingest_svc.receiving.upload_records import PAGE, BegunUpload, Received, UploadKey, UploadRecords
from ingest_svc.storage_state import StorageState
from ingest_svc.thread_pool import ThreadPool
from mesh.blobs import Blobs, SpooledFile
from mesh.blobs.parts import PART_BYTES, StoredPart
from mesh.problems import Conflict, Exhausted, Invalid, NotFound, Problem

log = structlog.get_logger(__name__)

# A part of a slow upload is stored after so long, however small it is.
PART_SECONDS = 30.0
# What arrives in more parts than this, over connections that are lost again and again, is not kept.
MAX_PARTS = 10_000
CLEANING_SECONDS, AWAY_SECONDS = 3600.0, 60.0
# A second connection waits for the first one, whose process notices within CHUNK_SECONDS that its client is
# gone, or whose lease expires.
WAITING_SECONDS, POLL_SECONDS = 45.0, 0.25
# What is kept when a connection is lost must be stored within the first time, and the store must know of the
# end within the second.
KEEP_SECONDS, END_SECONDS = 10.0, 3.0
UPLOAD_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class CutOff(Invalid):
    """Fewer bytes arrived than were declared. A connection that is lost may look like this, too."""


class ArrivingUpload:
    """An upload of which this process receives the rest.

    What has arrived is in parts, which are durable and known to the store, and behind them in a spooled file.
    A short upload has no part: its spooled file is all. `size` is all that has arrived.
    """

    def __init__(
        self,
        begun: BegunUpload,
        resumable: bool,
        records: UploadRecords,
        blobs: Blobs,
        readers: ThreadPool,
        storage: StorageState,
    ) -> None:
        self._id, self._lease, self._parts = begun.id, begun.lease, begun.parts
        self._resumable, self._arrived_at = resumable, begun.arrived_at
        self._records, self._blobs, self._readers, self._storage = records, blobs, readers, storage
        self._durable = self.size = sum(part.size for part in self._parts)
        self._stack = AsyncExitStack()
        self._spooled: SpooledFile
        self._spooled_since = 0.0
        # The part that is being stored, and the last one until the store knows it.
        self._storing: asyncio.Future[None] | None = None
        self._unrecorded: StoredPart | None = None
        # Whether the spooled file has the whole content, and not what follows the parts.
        self._whole = False
        # Whether the time of the first arrival is needed if all has to be sent again.
        self._arrival_asked = False

    async def open(self) -> None:
        self._spooled = await self._stack.enter_async_context(self._blobs.spooled())

    async def close(self) -> None:
        """Discards what is neither stored nor kept."""
        await self._stack.aclose()

    async def head(self, most: int) -> bytes:
        """The first bytes, at most so many. Raises NotFound."""
        if not self._parts:
            return await self._readers.run(self._spooled.read, 0, most)
        head = b""
        for part in self._parts:
            async for piece in self._blobs.parts.read(self._id, part):
                head += piece[: most - len(head)]
                if len(head) == most:
                    return head
        return head + await self._readers.run(self._spooled.read, 0, most - len(head))

    async def write(self, chunk: bytes) -> None:
        with self._storage.spooling():
            await self._readers.run(self._spooled.write, chunk)
        self.size += len(chunk)
        now = time.monotonic()
        if self._spooled.size == len(chunk):
            self._spooled_since = now
        elif self._resumable and now - self._spooled_since >= PART_SECONDS:
            await self._store_part()
        if self._resumable and self._spooled.size >= PART_BYTES:
            await self._store_part()

    async def whole(self) -> SpooledFile:
        """Puts the content together when all has arrived. Raises NotFound."""
        if self._parts and not self._whole:
            await self._store_part()
            self._whole = True
            for part in self._parts:
                async for piece in self._blobs.parts.read(self._id, part):
                    with self._storage.spooling():
                        await self._readers.run(self._spooled.write, piece)
        return self._spooled

    async def first_arrival(self, sha256: str) -> datetime:
        """When the upload was begun for the first time."""
        self._arrival_asked = True
        if not self._resumable:
            return await self._records.first_arrival(self._lease, sha256)
        return self._arrived_at

    async def reserve(self, size: int) -> None:
        """Raises Exhausted UPLOAD_QUOTA."""
        await remove_parts(self._blobs, await self._records.reserve(self._lease, size))

    async def keep(self) -> None:
        """Stores what has arrived, and lets others go on."""
        try:
            async with asyncio.timeout(KEEP_SECONDS):
                if self._storing is not None and not self._storing.done():
                    await self._storing
                if self._resumable and not self._whole and len(self._parts) < MAX_PARTS:
                    await self._store_part()
        except (Problem, OSError, ValueError, TimeoutError) as error:  # it was moved into the blobs, perhaps
            log.warning("end of an upload not kept", bytes=self.size - self._durable, error=str(error))
        await self._end(keep=bool(self._parts) or self._arrival_asked)

    async def _end(self, keep: bool) -> bool:
        """Returns whether the store knows it. Otherwise the lease expires."""
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._records.end(self._lease, keep=keep)
        except (Problem, TimeoutError) as error:
            log.warning("upload not ended", error=str(error))
            return False
        return True

    async def forget(self) -> None:
        """Removes what is recorded and kept of it. What cannot be removed now is removed later."""
        if await self._end(keep=False) and self._parts:
            await remove_parts(self._blobs, [self._id])

    async def _store_part(self) -> None:
        """Makes what is spooled a part. If the upload is cancelled meanwhile, `keep` waits for it."""
        self._storing = asyncio.ensure_future(self._store_spooled())
        await asyncio.shield(self._storing)

    async def _store_spooled(self) -> None:
        if self._unrecorded is None:
            if not self._spooled.size:
                return
            # A name that is never used again: another process may store a part with the same start.
            name = f"{self._durable:012x}-{self._lease.token:x}"
            self._unrecorded = await self._blobs.parts.put(self._id, name, self._spooled)
        part = self._unrecorded
        await self._records.add_part(self._lease, self._durable, part)
        self._unrecorded = None
        self._parts.append(part)
        self._durable += part.size
        await self.close()
        await self.open()


class UploadProgress:
    """`keep_clean` is its loop."""

    def __init__(
        self,
        records: UploadRecords,
        blobs: Blobs,
        space: DiskSpace,
        storage: StorageState,
        readers: ThreadPool,
    ) -> None:
        self._records, self._blobs, self._space = records, blobs, space
        self._storage, self._readers = storage, readers

    async def find(self, key: UploadKey) -> Received:
        """How much has arrived and is durable, also of one that is in progress."""
        return await self._records.find(key)

    @asynccontextmanager
    async def arriving(
        self, key: UploadKey, size: int, offset: int = 0
    ) -> AsyncIterator[tuple[ArrivingUpload, Reservation]]:
        """Yields an upload of which the first `offset` of its `size` bytes have arrived. If the block fails,
        all that has arrived is kept, but not after Invalid, unless it was cut off: it is of no use. Without a
        digest in its key, nothing is kept.

        Raises Conflict OFFSET_MISMATCH, Exhausted UPLOAD_IN_PROGRESS or UPLOAD_QUOTA, Unavailable DISK_FULL
        or STORE_AWAY, OSError.
        """
        with self._space.arriving() as reservation:
            resumable = bool(key.sha256)
            # When its parts are put together, it takes its space twice.
            twice = resumable and size > PART_BYTES
            await self._space.reserve(reservation, 2 * size if twice else size)
            reservation.written = offset
            begun = await self._begin(key, size, offset)
            upload = ArrivingUpload(
                begun, resumable, self._records, self._blobs, self._readers, self._storage
            )
            try:
                await remove_parts(self._blobs, begun.forgotten)
                await upload.open()
                yield upload, reservation
            except NotFound as problem:
                if problem.reason != "PART_NOT_FOUND":
                    await _all_of(upload.keep())
                    raise
                await upload.forget()
                raise Conflict(
                    "what had arrived of this upload is gone", "OFFSET_MISMATCH", received_bytes="0"
                ) from None
            except Invalid as error:
                await _all_of(upload.keep() if isinstance(error, CutOff) else upload.forget())
                raise
            except BaseException:
                await _all_of(upload.keep())
                raise
            else:
                await _all_of(upload.forget())
            finally:
                await upload.close()

    async def _begin(self, key: UploadKey, size: int, offset: int) -> BegunUpload:
        deadline = time.monotonic() + WAITING_SECONDS
        while True:
            try:
                return await self._records.begin(key, size, offset)
            except Exhausted as problem:
                if problem.reason != "UPLOAD_IN_PROGRESS" or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(POLL_SECONDS)

    async def clean(self) -> None:
        """Removes what has expired, and parts that killed processes have left. Raises Unavailable."""
        folders = [name async for name in self._blobs.parts.folders() if UPLOAD_ID.fullmatch(name)]
        for first in range(0, max(len(folders), 1), PAGE):
            page = folders[first : first + PAGE]
            left = await self._records.expire(page)
            await remove_parts(self._blobs, [folder for folder in page if folder not in left])

    async def keep_clean(self) -> None:
        while True:
            try:
                await self.clean()
                pause = CLEANING_SECONDS
            except Problem as problem:
                log.warning("parts of uploads not cleaned", error=problem.message)
                pause = AWAY_SECONDS
            await asyncio.sleep(pause)


async def remove_parts(blobs: Blobs, upload_ids: Collection[str]) -> None:
    """Removes parts of uploads that are forgotten. What cannot be removed now is removed later."""
    for id in upload_ids:
        try:
            await blobs.parts.remove(id)
        except Problem as problem:
            log.warning("parts of an upload not removed", upload=id, error=problem.message)


async def _all_of(work: Coroutine[Any, Any, None]) -> None:
    """Does all of it, also in a task that is cancelled meanwhile."""
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
