"""Detects when files are complete. A pure state machine over file events and file states.

Times are monotonic seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, count, zip_longest

from ingest_svc.fingerprint import Fingerprint
from ingest_svc.watching.file_events import FileEventType
from ingest_svc.watching.folder_walk import camera_folder

# A file that is open for writing and does not change counts as abandoned, hence complete, after this.
PATIENCE_SECONDS = 30.0
# A file that is overwritten for longer than RESTLESS_SECONDS, and was not complete in that time, is restless.
# It is looked at in short steps, and counts as complete for the moment when it did not change for QUIET_SHARE
# of the longest pause between two changes, because that pause lies between two pictures and not inside one. A
# pause is worth half as much after PAUSE_HALF_LIFE_SECONDS, so that one stall of the camera does not count
# for ever.
RESTLESS_SECONDS, STEP_SECONDS, RETRY_SECONDS = 1.5, 0.02, 0.15
LEARN_SECONDS, QUIET_SHARE, PAUSE_HALF_LIFE_SECONDS = 1.0, 0.5, 2.0

# Size, mtime and inode.
State = tuple[int, int, int]


@dataclass(frozen=True)
class Moment:
    """When a restless file, which may change at any time, is complete: in this state. `pause` is the longest
    time for which it did not change lately."""

    state: State
    pause: float


@dataclass(frozen=True)
class CompleteFile:
    """`reported`: the system reported the completion; otherwise the file did not change for a while. `at` is
    when the completion was noticed. `position` is the file's place in the order of arrival. A restless file
    has a `moment`."""

    path: str
    at: float
    reported: bool
    position: int
    moment: Moment | None = None


@dataclass
class _IncompleteFile:
    """`written`: the system will report when the file is closed. `busy`: it is empty, open for writing, or
    changed between the last two checks. `state` is its size, mtime and inode, `seen_at` when it was last
    found in it. `overwritten`: it changed without growing. A restless file is so `since`; `learned`: its
    pauses are known; `offered`: it was returned as complete, and nothing has come of that yet; it is not
    again before `retry_at`."""

    position: int
    written: bool
    unchanged_since: float
    check_at: float
    busy: bool = False
    state: State | None = None
    seen_at: float = 0.0
    overwritten: bool = False
    since: float | None = None
    learned: bool = False
    changes: int = 0
    longest_pause: float = 0.0
    offered: bool = False
    attempts: int = 0
    retry_at: float = 0.0


class CompletionTracker:
    """Tracks every file from its first event until `remove`, or until a check finds that it is gone.

    A file is complete when the system reports it, when its size and mtime did not change for `settle_seconds`
    and nothing writes to it, or when they did not change for `patience` seconds; a restless one, see above,
    also for the moment.
    """

    def __init__(self, settle_seconds: float, patience: float = PATIENCE_SECONDS) -> None:
        self._settle_seconds, self._patience = settle_seconds, max(patience, settle_seconds)
        self._incomplete: dict[str, _IncompleteFile] = {}
        self._complete: dict[str, CompleteFile] = {}
        self._positions = count()
        # By camera folder: its files with earlier positions are a flood.
        self._floods: dict[str, int] = {}
        # Since when each file has been waiting to be taken in, whatever happened to it since, and when the
        # system first reported that it was complete.
        self._waiting_since: dict[str, float] = {}
        self._completed_since: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._incomplete) + len(self._complete)

    def next_position(self) -> int:
        """Reserves a place in the order, for files whose names become known only later."""
        return next(self._positions)

    def record(self, path: str, event: FileEventType, now: float, position: int | None = None) -> None:
        """Records an event; `position` is one that `next_position` returned."""
        position = self.next_position() if position is None else position
        self._waiting_since.setdefault(path, now)
        if event is FileEventType.COMPLETE and self._completed_before(path, now):
            # It is completed again and again, faster than it can be taken in.
            file = self._incomplete.setdefault(path, _IncompleteFile(position, False, now, now))
            file.written, file.overwritten = False, True
        elif event is FileEventType.COMPLETE:
            self._incomplete.pop(path, None)
            self._complete.pop(path, None)  # a file that is completed again moves to the end
            self._complete[path] = CompleteFile(path, now, True, position)
        elif event is FileEventType.WRITTEN:
            withdrawn = self._complete.pop(path, None)
            file = self._incomplete.setdefault(path, _IncompleteFile(position, True, now, now))
            file.offered &= withdrawn is None
            if file.since is None:
                file.unchanged_since = now
                if not file.written:
                    file.check_at = now + self._settle_seconds
            file.written = True
        elif path not in self._complete:
            file = self._incomplete.setdefault(path, _IncompleteFile(position, False, now, now))
            file.check_at = min(file.check_at, now + self._settle_seconds)

    def wait(self, path: str, seconds: float, now: float) -> None:
        """Does not check this file again before that time, unless something happens to it. It holds back no
        other file meanwhile."""
        if (file := self._incomplete.get(path)) is not None:
            file.check_at, file.busy = now + seconds, True

    def due(self, now: float, most: int) -> list[str]:
        """The files whose state has to be checked now, but at most `most`, of all cameras in turn; call
        `update` for each. If a camera has more, its files are a flood: they are complete together, as if all
        had been checked at once."""
        due = [path for path, file in self._incomplete.items() if file.check_at <= now]
        if len(due) <= most:
            return due
        of_each: dict[str, list[str]] = {}
        for path in sorted(due, key=lambda path: self._incomplete[path].check_at):
            of_each.setdefault(camera_folder(path), []).append(path)
        in_turn = [path for path in chain(*zip_longest(*of_each.values())) if path is not None]
        settling = self._first_settling()
        for folder in {camera_folder(path) for path in in_turn[most:]}:
            if not self._flooded(folder, settling):  # or a flood that goes on would never be complete
                self._floods[folder] = self.next_position()
        return in_turn[:most]

    def update(self, path: str, found: Fingerprint | None, busy: bool, now: float) -> None:
        """Records the state of a file that was due: `found` is None if it is gone, `busy` means that it is
        empty or open for writing."""
        file = self._incomplete.get(path)
        if file is None:
            return
        if found is None and file.since is not None and file.state is not None:
            file.state, file.check_at = None, now + STEP_SECONDS  # it is being replaced, perhaps
            return
        if found is None:
            del self._incomplete[path]
            self.forget(path)
            return
        state = state_of(found)
        file.busy = busy or file.state not in (None, state)
        if file.state != state:
            if file.state is not None:
                file.overwritten |= found.size <= file.state[0] or found.inode != file.state[2]
                file.changes += 1
                if file.changes > 1:
                    faded = 0.5 ** ((now - file.unchanged_since) / PAUSE_HALF_LIFE_SECONDS)
                    pause = file.seen_at - file.unchanged_since
                    file.longest_pause = max(pause, file.longest_pause * faded)
            # The first check of a file that is being written only learns its state.
            if file.state is not None or not file.written:
                file.unchanged_since = now
            file.state = state
        file.seen_at = now
        unchanged = now - file.unchanged_since
        if unchanged >= self._patience or (
            unchanged >= self._settle_seconds and not busy and not file.written
        ):
            del self._incomplete[path]
            self._complete[path] = CompleteFile(path, now, False, file.position)
            return
        waited = now - self._waiting_since.get(path, now)
        if file.since is None and file.overwritten and waited >= RESTLESS_SECONDS:
            file.since = now
            if not file.learned:  # its pauses
                file.overwritten, file.changes = False, 0
        elif self._quiet_for_now(file, now):
            file.offered = True
            moment = Moment(state, file.longest_pause)
            self._complete[path] = CompleteFile(path, now, False, file.position, moment)
        file.check_at = now + (self._settle_seconds if file.since is None else STEP_SECONDS)

    def retry(self, path: str, now: float) -> None:
        """The file changed while it was imported, or could not be taken as it was at a moment."""
        self.record(path, FileEventType.FOUND, now)
        if file := self._incomplete.get(path):
            file.attempts, file.offered = file.attempts + 1, False
            # Not always equally late, or it might be the same wrong moment each time.
            file.retry_at = now + RETRY_SECONDS * (file.attempts % 3)

    def forget(self, path: str) -> None:
        """The file was taken in, or never will be: it does not wait any longer."""
        self._waiting_since.pop(path, None)
        self._completed_since.pop(path, None)
        if file := self._incomplete.get(path):  # it has changed since, perhaps
            self._waiting_since[path] = file.unchanged_since
            file.since, file.offered, file.check_at = None, False, 0.0

    def _completed_before(self, path: str, now: float) -> bool:
        return now - self._completed_since.setdefault(path, now) >= RESTLESS_SECONDS

    @staticmethod
    def _quiet_for_now(file: _IncompleteFile, now: float) -> bool:
        if file.since is None:
            return False
        file.learned |= now - file.since >= LEARN_SECONDS and file.changes >= 2
        if not file.learned or not file.overwritten or file.offered or now < file.retry_at:
            return False
        return now - file.unchanged_since >= QUIET_SHARE * file.longest_pause

    def pause(self, now: float) -> float | None:
        """Seconds until there is something to do; None if there is nothing to wait for."""
        if self.complete():
            return 0.0
        next_check = min((file.check_at for file in self._incomplete.values()), default=None)
        return None if next_check is None else max(0.0, next_check - now)

    def complete(self) -> list[CompleteFile]:
        """The complete files, in order of completion.

        A file is held back while a file of the same camera that was seen before it, or that belongs to the
        same flood, only has to stay unchanged a little longer. It is not held back by files that are still
        being written.
        """
        if not self._complete:
            return []
        settling = self._first_settling()
        return [file for file in self._complete.values() if not self._held_back(file, settling)]

    def _held_back(self, file: CompleteFile, settling: Mapping[str, int]) -> bool:
        if file.moment is not None:
            return False
        folder = camera_folder(file.path)
        if file.reported:
            return file.position > settling.get(folder, file.position)
        return self._flooded(folder, settling) and file.position < self._floods[folder]

    def _flooded(self, folder: str, settling: Mapping[str, int]) -> bool:
        """Whether a file of a flood in this folder only has to stay unchanged a little longer."""
        return folder in settling and settling[folder] < self._floods.get(folder, 0)

    def _first_settling(self) -> dict[str, int]:
        """By camera folder, the first position of files that only have to stay unchanged a little longer."""
        first: dict[str, int] = {}
        for path, file in self._incomplete.items():
            if not (file.written or file.busy):
                folder = camera_folder(path)
                first[folder] = min(first.get(folder, file.position), file.position)
        return first

    def remove(self, file: CompleteFile) -> None:
        """Stops tracking a complete file, unless it was completed again since."""
        if self._complete.get(file.path) is file:
            del self._complete[file.path]


def state_of(file: Fingerprint) -> State:
    return file.size, file.mtime_ns, file.inode
