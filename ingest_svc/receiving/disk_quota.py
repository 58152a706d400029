"""Bounds what media that are still arriving take of the disk: those of one camera, and all of them
together."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ingest_svc.storage_state import StorageState
from ingest_svc.thread_pool import ThreadPool
from mesh.blobs.partial import PartialContent, PartialContents
from mesh.problems import Exhausted, Unavailable

# What is left free: this share of the disk, or these bytes if they are fewer.
FREE_SHARE, FREE_BYTES = 0.05, 2**30
# Parts to which nothing was added for so long give way to new media of their camera, the oldest first.
GIVES_WAY_SECONDS = 3600.0


@dataclass(eq=False)
class Reservation:
    """Of one content that is arriving: `size` is what it may take, `written` is on the disk already. `part`
    names what is kept of it if the connection is lost; empty: nothing."""

    camera_id: str
    part: str = ""
    size: int = 0
    written: int = 0


@dataclass(frozen=True)
class _Disk:
    free: int
    size: int
    parts: list[PartialContent]


class DiskQuota:
    """`camera_bytes` is the most that one camera's arriving and partial contents may take."""

    def __init__(
        self,
        partial: Callable[[], PartialContents],
        camera_bytes: int,
        storage: StorageState,
        readers: ThreadPool,
    ) -> None:
        self._partial, self._camera_bytes = partial, camera_bytes
        self._storage, self._readers = storage, readers
        self._reservations: set[Reservation] = set()

    @contextmanager
    def arriving(self, camera_id: str, part: str = "") -> Iterator[Reservation]:
        """A block in which a content arrives. Nothing is reserved for it yet."""
        reservation = Reservation(camera_id, part)
        self._reservations.add(reservation)
        try:
            yield reservation
        finally:
            self._reservations.discard(reservation)

    async def reserve(self, reservation: Reservation, size: int) -> None:
        """Makes it `size` bytes. Raises Exhausted UPLOAD_QUOTA, Unavailable DISK_FULL."""
        if size <= reservation.size:
            return
        disk = await self._readers.run(self._look)
        needed = self._used(reservation, disk.parts) + size - self._camera_bytes
        if needed > 0 and size <= self._camera_bytes:
            idle = self._idle_parts(reservation.camera_id, disk.parts)
            disk = await self._readers.run(self._give_way, idle, needed)
        self._require_quota(reservation, size, disk.parts)
        self._require_disk(reservation, size, disk)
        reservation.size = size

    def _require_quota(self, reservation: Reservation, size: int, parts: list[PartialContent]) -> None:
        used = self._used(reservation, parts)
        if used + size > self._camera_bytes:
            raise Exhausted(
                f"{size} bytes are needed, and uploads of this camera that are not finished take {used} of"
                f" the {self._camera_bytes} bytes that they may take: finish them, or wait until they expire",
                "UPLOAD_QUOTA",
                camera_id=reservation.camera_id,
                needed_bytes=str(size),
                used_bytes=str(used),
                quota_bytes=str(self._camera_bytes),
            )

    def _require_disk(self, reservation: Reservation, size: int, disk: _Disk) -> None:
        promised = sum(max(0, other.size - other.written) for other in self._reservations - {reservation})
        keep_free = min(int(disk.size * FREE_SHARE), FREE_BYTES)
        needed = size - reservation.written
        if disk.free - promised - needed < keep_free:
            self._storage.failed("the disk is almost full")
            raise Unavailable(
                f"the disk is almost full: {needed} bytes are needed, {disk.free} are free, {promised} of"
                f" them are promised to other uploads, and {keep_free} stay free",
                "DISK_FULL",
            )

    def _used(self, reservation: Reservation, parts: list[PartialContent]) -> int:
        """By this camera, without the content itself."""
        arriving = [one for one in self._reservations if one.camera_id == reservation.camera_id]
        counted = {one.part for one in arriving}
        kept = [part for part in parts if part.name not in counted and _is_of(part, reservation.camera_id)]
        return sum(one.size for one in arriving if one is not reservation) + sum(part.size for part in kept)

    def _idle_parts(self, camera_id: str, parts: list[PartialContent]) -> list[PartialContent]:
        counted = {one.part for one in self._reservations}
        until = time.time() - GIVES_WAY_SECONDS
        idle = [
            part
            for part in parts
            if part.name not in counted and _is_of(part, camera_id) and part.written_at < until
        ]
        return sorted(idle, key=lambda part: part.written_at)

    def _look(self) -> _Disk:
        partial = self._partial()
        free, size = partial.free_bytes()
        return _Disk(free, size, list(partial.all()))

    def _give_way(self, idle: list[PartialContent], needed: int) -> _Disk:
        for part in idle:
            if needed <= 0:
                break
            if self._partial().remove(part.name, part.written_at):
                needed -= part.size
        return self._look()


def _is_of(part: PartialContent, camera_id: str) -> bool:
    return part.name.partition(".")[0] == camera_id
