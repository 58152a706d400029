"""Bounds what media that are still arriving take of this machine's disk, all of them together. What those of
one camera may take is bounded by the store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ingest_svc.storage_state import StorageState
from ingest_svc.thread_pool import ThreadPool
from mesh.problems import Unavailable

# What is left free: this share of the disk, or these bytes if they are fewer.
FREE_SHARE, FREE_BYTES = 0.05, 2**30


@dataclass(eq=False)
class Reservation:
    """Of one content that is arriving: `size` is what it may take, `written` is on the disk already."""

    size: int = 0
    written: int = 0


class DiskSpace:
    """`free_bytes` returns how much is free, and the size of the disk; it blocks."""

    def __init__(
        self, free_bytes: Callable[[], tuple[int, int]], storage: StorageState, readers: ThreadPool
    ) -> None:
        self._free_bytes, self._storage, self._readers = free_bytes, storage, readers
        self._reservations: set[Reservation] = set()

    @contextmanager
    def arriving(self) -> Iterator[Reservation]:
        """A block in which a content arrives. Nothing is reserved for it yet."""
        reservation = Reservation()
        self._reservations.add(reservation)
        try:
            yield reservation
        finally:
            self._reservations.discard(reservation)

    async def reserve(self, reservation: Reservation, size: int) -> None:
        """Makes it `size` bytes. Raises Unavailable DISK_FULL, OSError."""
        if size <= reservation.size:
            return
        free, whole = await self._readers.run(self._free_bytes)
        promised = sum(max(0, other.size - other.written) for other in self._reservations - {reservation})
        keep_free = min(int(whole * FREE_SHARE), FREE_BYTES)
        needed = size - reservation.written
        if free - promised - needed < keep_free:
            self._storage.failed("the disk is almost full")
            raise Unavailable(
                f"the disk is almost full: {needed} bytes are needed, {free} are free, {promised} of"
                f" them are promised to other uploads, and {keep_free} stay free",
                "DISK_FULL",
            )
        reservation.size = size
