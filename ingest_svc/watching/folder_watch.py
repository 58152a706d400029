"""What the two ways of watching the cameras folder, natively and by polling, have in common."""

import os
import threading
from abc import ABC, abstractmethod
from collections import deque
from typing import ClassVar

import structlog

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.fingerprint import fingerprint
from ingest_svc.watching.file_events import FileEvent, FileEventQueue, FileEventType, FolderEventType
from ingest_svc.watching.ignored_names import IgnoredNames

log = structlog.get_logger(__name__)

GONE = (FileNotFoundError, NotADirectoryError)


class FolderWatch(ABC, threading.Thread):
    """A thread that reports what happens in the cameras folder to `events`, until `stop`.

    `unreadable` are the folders that it cannot read now, with the reason; "" is the cameras folder. Each is
    tried again and again, and reported as MISSED once it is readable. `identity` is that of the cameras
    folder that it watches; None while there is none. `reports_close`: it reports when a file is closed after
    writing. `limit` says which limit of the system it has reached, if any.
    """

    reports_close: ClassVar[bool]

    def __init__(self, root: CamerasRoot, ignored: IgnoredNames, events: FileEventQueue) -> None:
        super().__init__(name="ingest-watch", daemon=True)
        self._root, self._ignored, self._events = root, ignored, events
        self._stopping = threading.Event()
        self._failed: dict[str, str] = {}
        self._missing: deque[str] = deque()
        self.unreadable: dict[str, str] = {}
        self.limit = ""
        self.identity: tuple[int, int] | None = None
        self.failure: BaseException | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Blocks until everything that happens later will be reported; or until it is known why the cameras
        folder cannot be watched now."""

    @abstractmethod
    def distrust(self, folder: str) -> None:
        """Call this, from any thread, with a folder that could not be listed, or was not there. It is
        reported as MISSED once it can be listed."""

    def missing(self, file: str) -> None:
        """Call this, from any thread, with a file that was not there, or could not be looked at, although it
        was reported. It is reported again if it is there after all."""
        self._missing.append(file)

    @abstractmethod
    def look(self) -> None:
        """Looks at the folders soon. May be called from any thread."""

    @abstractmethod
    def _watch_until_stopped(self) -> None: ...

    def run(self) -> None:
        try:
            self._watch_until_stopped()
        except BaseException as error:  # the worker raises it
            self.failure = error
            self._events.wake()

    @abstractmethod
    def close(self) -> None:
        """Call this after the thread has ended."""

    def stop(self) -> None:
        self._stopping.set()
        self.look()

    def _full(self, path: str) -> str:
        return self._root.full(path)

    def _put(self, path: str, event: FileEventType | FolderEventType) -> None:
        self._events.put(FileEvent(path, event))

    def _take_missing(self) -> set[str]:
        return {self._missing.popleft() for _ in range(len(self._missing))}

    def _report_again(self, file: str) -> OSError | None:
        """Reports a file, if it is there. Returns the error if it cannot be looked at."""
        if fingerprint(self._root, file) is not None:
            self._put(file, FileEventType.FOUND)
            return None
        try:
            os.lstat(self._full(file))  # it may be no file, but a link that leads nowhere, for example
        except OSError as error:
            return error
        return None

    def _fail(self, folder: str, error: OSError) -> None:
        self._failed[folder] = self._warn(folder, error)

    def _warn(self, folder: str, error: OSError) -> str:
        """Logs it, unless it was known before, and returns the reason."""
        why = error.strerror or str(error)
        if folder not in self.unreadable:
            log.warning("folder not readable", path=folder or self._full(""), error=why)
        return why

    def _publish(self, unreadable: dict[str, str]) -> None:
        if self.unreadable != unreadable:
            self.unreadable = dict(unreadable)


def joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def folder_of(path: str) -> str:
    return path.rpartition("/")[0]
