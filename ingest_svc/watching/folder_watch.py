"""What the two ways of watching the cameras folder, natively and by polling, have in common."""

import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import structlog

from ingest_svc.watching.file_events import FileEvent, FileEventQueue, FileEventType, FolderEventType
from ingest_svc.watching.ignored_names import IgnoredNames

log = structlog.get_logger(__name__)


class FolderWatch(ABC, threading.Thread):
    """A thread that reports what happens in the cameras folder to `events`, until `stop`.

    `unreadable` are the folders that it cannot read now, with the reason; "" is the cameras folder. Each is
    tried again and again, and reported as MISSED once it is readable. `identity` is that of the cameras
    folder that it watches; None while there is none. `reports_close`: it reports when a file is closed after
    writing.
    """

    reports_close: ClassVar[bool]

    def __init__(self, root: Path, ignored: IgnoredNames, events: FileEventQueue) -> None:
        super().__init__(name="ingest-watch", daemon=True)
        self._root, self._ignored, self._events = str(root), ignored, events
        self._stopping = threading.Event()
        self._failed: dict[str, str] = {}
        self.unreadable: dict[str, str] = {}
        self.identity: tuple[int, int] | None = None
        self.failure: BaseException | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Blocks until everything that happens later will be reported. Raises OSError."""

    @abstractmethod
    def distrust(self, folder: str) -> None:
        """Call this, from any thread, with a folder that could not be listed. It is reported as MISSED once
        it can be."""

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
        return f"{self._root}/{path}" if path else self._root

    def _put(self, path: str, event: FileEventType | FolderEventType) -> None:
        self._events.put(FileEvent(path, event))

    def _fail(self, folder: str, error: OSError) -> None:
        why = error.strerror or str(error)
        if folder not in self.unreadable:
            log.warning("folder not readable", path=folder or self._root, error=why)
        self._failed[folder] = why

    def _tell(self) -> None:
        """Publishes which folders cannot be read."""
        if self.unreadable != self._failed:
            self.unreadable = dict(self._failed)


def joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def is_below(path: str, folder: str) -> bool:
    """Whether `path` is `folder`, or is in it."""
    return not folder or path == folder or path.startswith(f"{folder}/")
