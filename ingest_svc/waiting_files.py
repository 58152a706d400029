"""The files that wait in the cameras folder for their turn to be announced."""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from ingest_svc.fingerprint import Fingerprint

# Beyond this many, files are not remembered, and have to be found again by a scan.
MAX_WAITING = 200_000
# How long a live photo waits for the files of its own camera that wait for their turn.
ORDER_SECONDS = 1.5

# A camera's folder, and whether its files are old.
Source = tuple[str, bool]


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """`complete_at` is in monotonic seconds."""

    file: Fingerprint
    complete_at: float


class WaitingFiles:
    """A queue for each source. The queues take turns; files leave each in the order of their arrival."""

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self._max_waiting = max_waiting
        self._queues: OrderedDict[Source, OrderedDict[str, WaitingFile]] = OrderedDict()
        self._size = 0
        self._forgotten: dict[str, None] = {}

    def __len__(self) -> int:
        return self._size

    def waits(self, source: Source) -> bool:
        return source in self._queues

    def any_of(self, folder: str) -> bool:
        return (folder, False) in self._queues or (folder, True) in self._queues

    def add(self, source: Source, waiting: WaitingFile) -> None:
        """A file that waits already keeps its place, in its new state."""
        queue = self._queues.get(source)
        known = queue is not None and waiting.file.path in queue
        if not known and self._size >= self._max_waiting:
            self.forget(source)
            return
        if queue is None:
            queue = self._queues[source] = OrderedDict()
        self._size += not known
        queue[waiting.file.path] = waiting

    def take(self, allowed: Callable[[str], bool]) -> WaitingFile | None:
        """Removes and returns the first file of the next queue whose folder is `allowed`; None if there is
        none."""
        for source in list(self._queues):
            if allowed(source[0]):
                queue = self._queues[source]
                _, waiting = queue.popitem(last=False)
                self._size -= 1
                self._queues.move_to_end(source)
                if not queue:
                    del self._queues[source]
                return waiting
        return None

    def forget(self, source: Source) -> None:
        """A file was not added, because there are too many."""
        self._forgotten[source[0]] = None

    def take_forgotten(self) -> list[str]:
        """Once nothing waits, removes and returns the folders of files that were not remembered."""
        if self._size or not self._forgotten:
            return []
        folders, self._forgotten = list(self._forgotten), {}
        return folders


class HeldPhotos:
    """Live photos of cameras with files that wait. Each waits for these at most ORDER_SECONDS, so that a few
    files, as after a restart, keep their order. Those of one camera leave in the order of their arrival."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[tuple[WaitingFile, float]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def any_of(self, folder: str) -> bool:
        return folder in self._queues

    def add(self, folder: str, photo: WaitingFile, now: float) -> None:
        self._queues.setdefault(folder, deque()).append((photo, now + ORDER_SECONDS))

    def take(self, must_wait: Callable[[str], bool], now: float) -> list[WaitingFile]:
        """Removes and returns the photos whose time has come, and those of folders that need not wait."""
        taken: list[WaitingFile] = []
        for folder, queue in list(self._queues.items()):
            free = not must_wait(folder)
            while queue and (free or queue[0][1] <= now):
                taken.append(queue.popleft()[0])
            if not queue:
                del self._queues[folder]
        return taken

    def pause(self, now: float) -> float | None:
        """Seconds until the next photo's time comes; None if there is none."""
        until = min((queue[0][1] for queue in self._queues.values()), default=None)
        return None if until is None else max(0.0, until - now)
