"""When is a file complete? A pure state machine over what was seen of it; times are monotonic seconds."""

from dataclasses import dataclass
from enum import Enum, auto
from itertools import count

from ingest_svc.fingerprint import Fingerprint
from ingest_svc.tree import camera_folder

# Who seems to write, and neither closes nor writes on, is believed gone after this.
PATIENCE_SECONDS = 30.0


class Sign(Enum):
    """What was seen: FOUND: it is there, or its attributes changed. WRITTEN: somebody writes, and the system
    will say when it is closed. COMPLETE: closed after writing, or renamed into place."""

    FOUND = auto()
    WRITTEN = auto()
    COMPLETE = auto()


@dataclass(frozen=True)
class Complete:
    """`said`: the system said so; else its size stood still. `at` is when it was known, `turn` its place
    among all that was seen."""

    path: str
    at: float
    said: bool
    turn: int


@dataclass
class _Waiting:
    turn: int
    written: bool
    since: float
    look_at: float
    busy: bool = False
    state: tuple[int, int] | None = None


class Settling:
    """Every file seen stays in here until it is complete and taken, or seen to be gone."""

    def __init__(self, seconds: float, patience: float = PATIENCE_SECONDS) -> None:
        self._seconds, self._patience = seconds, max(patience, seconds)
        self._waiting: dict[str, _Waiting] = {}
        self._complete: dict[str, Complete] = {}
        self._turns = count()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._complete)

    def turn(self) -> int:
        """The next place, for files that can only be `see`n later."""
        return next(self._turns)

    def see(self, path: str, sign: Sign, now: float, turn: int | None = None) -> None:
        turn = self.turn() if turn is None else turn
        if sign is Sign.COMPLETE:
            self._waiting.pop(path, None)
            self._complete.pop(path, None)  # completed again: its turn is now
            self._complete[path] = Complete(path, now, True, turn)
        elif sign is Sign.WRITTEN:
            self._complete.pop(path, None)
            waiting = self._waiting.setdefault(path, _Waiting(turn, True, now, now))
            waiting.written, waiting.since, waiting.look_at = True, now, now + self._seconds
        elif path not in self._complete:
            self._waiting.setdefault(path, _Waiting(turn, False, now, now))

    def due(self, now: float) -> list[str]:
        """The files to look at now; `look` wants an answer for each."""
        return [path for path, waiting in self._waiting.items() if waiting.look_at <= now]

    def look(self, path: str, file: Fingerprint | None, busy: bool, now: float) -> None:
        """`file` as it is now, None when gone; `busy`: it is empty, or open for writing."""
        waiting = self._waiting.get(path)
        if waiting is None:
            return
        if file is None:
            del self._waiting[path]
            return
        state = (file.size, file.mtime_ns)
        waiting.busy = busy or waiting.state not in (None, state)
        if waiting.state != state:
            # The first look of a file being written only learns its state.
            if waiting.state is not None or not waiting.written:
                waiting.since = now
            waiting.state = state
        still = now - waiting.since
        if still >= self._patience or (still >= self._seconds and not busy and not waiting.written):
            del self._waiting[path]
            self._complete[path] = Complete(path, now, False, waiting.turn)
        else:
            waiting.look_at = now + self._seconds

    def pause(self, now: float) -> float | None:
        """Seconds until the next look is due; None when nothing waits."""
        if self.complete():
            return 0.0
        next_look = min((waiting.look_at for waiting in self._waiting.values()), default=None)
        return None if next_look is None else max(0.0, next_look - now)

    def complete(self) -> list[Complete]:
        """The complete files in order of completion. They stay until taken. One does not overtake a file of
        its camera that was there first and, as nobody writes to it, is about to be complete."""
        settling: dict[str, int] = {}
        for path, waiting in self._waiting.items():
            if not (waiting.written or waiting.busy):
                first = settling.setdefault(camera_folder(path), waiting.turn)
                settling[camera_folder(path)] = min(first, waiting.turn)
        return [
            entry
            for entry in self._complete.values()
            if not entry.said or entry.turn <= settling.get(camera_folder(entry.path), entry.turn)
        ]

    def take(self, entry: Complete) -> None:
        """It is in other hands now."""
        if self._complete.get(entry.path) is entry:
            del self._complete[entry.path]
