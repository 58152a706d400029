"""Detects when files are complete. A pure state machine over file events and file states.

Times are monotonic seconds.
"""

from dataclasses import dataclass
from itertools import count

from ingest_svc.fingerprint import Fingerprint
from ingest_svc.watching.file_events import FileEventType
from ingest_svc.watching.folder_walk import camera_folder

# A file that is open for writing and does not change counts as abandoned, hence complete, after this.
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class CompleteFile:
    """`reported`: the system reported the completion; otherwise the file did not change for a while. `at` is
    when the completion was noticed. `position` is the file's place in the order of arrival."""

    path: str
    at: float
    reported: bool
    position: int


@dataclass
class _IncompleteFile:
    """`written`: the system will report when the file is closed. `busy`: it is empty, open for writing, or
    changed between the last two checks. `state` is its size and mtime."""

    position: int
    written: bool
    unchanged_since: float
    check_at: float
    busy: bool = False
    state: tuple[int, int] | None = None


class CompletionTracker:
    """Tracks every file from its first event until `remove`, or until a check finds that it is gone.

    A file is complete when the system reports it, when its size and mtime did not change for `settle_seconds`
    and nothing writes to it, or when they did not change for `patience` seconds.
    """

    def __init__(self, settle_seconds: float, patience: float = PATIENCE_SECONDS) -> None:
        self._settle_seconds, self._patience = settle_seconds, max(patience, settle_seconds)
        self._incomplete: dict[str, _IncompleteFile] = {}
        self._complete: dict[str, CompleteFile] = {}
        self._positions = count()

    def __len__(self) -> int:
        return len(self._incomplete) + len(self._complete)

    def next_position(self) -> int:
        """Reserves a place in the order, for files whose names become known only later."""
        return next(self._positions)

    def record(self, path: str, event: FileEventType, now: float, position: int | None = None) -> None:
        """Records an event; `position` is one that `next_position` returned."""
        position = self.next_position() if position is None else position
        if event is FileEventType.COMPLETE:
            self._incomplete.pop(path, None)
            self._complete.pop(path, None)  # a file that is completed again moves to the end
            self._complete[path] = CompleteFile(path, now, True, position)
        elif event is FileEventType.WRITTEN:
            self._complete.pop(path, None)
            file = self._incomplete.setdefault(path, _IncompleteFile(position, True, now, now))
            file.written, file.unchanged_since, file.check_at = True, now, now + self._settle_seconds
        elif path not in self._complete:
            self._incomplete.setdefault(path, _IncompleteFile(position, False, now, now))

    def due(self, now: float) -> list[str]:
        """The files whose state has to be checked now; call `update` for each."""
        return [path for path, file in self._incomplete.items() if file.check_at <= now]

    def update(self, path: str, found: Fingerprint | None, busy: bool, now: float) -> None:
        """Records the state of a file that was due: `found` is None if it is gone, `busy` means that it is
        empty or open for writing."""
        file = self._incomplete.get(path)
        if file is None:
            return
        if found is None:
            del self._incomplete[path]
            return
        state = (found.size, found.mtime_ns)
        file.busy = busy or file.state not in (None, state)
        if file.state != state:
            # The first check of a file that is being written only learns its state.
            if file.state is not None or not file.written:
                file.unchanged_since = now
            file.state = state
        unchanged = now - file.unchanged_since
        if unchanged >= self._patience or (
            unchanged >= self._settle_seconds and not busy and not file.written
        ):
            del self._incomplete[path]
            self._complete[path] = CompleteFile(path, now, False, file.position)
        else:
            file.check_at = now + self._settle_seconds

    def pause(self, now: float) -> float | None:
        """Seconds until there is something to do; None if there is nothing to wait for."""
        if self.complete():
            return 0.0
        next_check = min((file.check_at for file in self._incomplete.values()), default=None)
        return None if next_check is None else max(0.0, next_check - now)

    def complete(self) -> list[CompleteFile]:
        """The complete files, in order of completion.

        A file is held back while a file of the same camera that was seen before it only has to stay unchanged
        a little longer. It is not held back by files that are still being written.
        """
        first_settling: dict[str, int] = {}
        for path, file in self._incomplete.items():
            if not (file.written or file.busy):
                first = first_settling.setdefault(camera_folder(path), file.position)
                first_settling[camera_folder(path)] = min(first, file.position)
        return [
            file
            for file in self._complete.values()
            if not file.reported
            or file.position <= first_settling.get(camera_folder(file.path), file.position)
        ]

    def remove(self, file: CompleteFile) -> None:
        """Stops tracking a complete file, unless it was completed again since."""
        if self._complete.get(file.path) is file:
            del self._complete[file.path]
