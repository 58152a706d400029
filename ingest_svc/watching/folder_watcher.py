"""Watches the cameras folder, by the system's native events or by polling."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from watchdog import events as watchdog_events
from watchdog.observers.api import BaseObserver

from ingest_svc.watching.file_events import FileEvent, FileEventQueue, FileEventType, FolderEventType
from ingest_svc.watching.folder_walk import ignored
from ingest_svc.watching.open_files import open_for_writing
from ingest_svc.watching.watch_barrier import BARRIER_NAME, WatchBarrier
from mesh.problems import Unavailable

JOIN_SECONDS = 3.0

EventTypes = dict[type[watchdog_events.FileSystemEvent], FileEventType | FolderEventType]

# For systems that report when a file is closed after writing.
WITH_CLOSE_EVENTS: EventTypes = {
    watchdog_events.FileCreatedEvent: FileEventType.FOUND,
    watchdog_events.FileAttribEvent: FileEventType.FOUND,
    watchdog_events.FileModifiedEvent: FileEventType.WRITTEN,
    watchdog_events.FileClosedEvent: FileEventType.COMPLETE,
    watchdog_events.FileMovedEvent: FileEventType.COMPLETE,
    watchdog_events.DirCreatedEvent: FolderEventType.APPEARED,
    watchdog_events.DirMovedEvent: FolderEventType.APPEARED,
    watchdog_events.DirDeletedEvent: FolderEventType.GONE,
}
# For the others, and for polling: only a file's state tells when it is complete.
WITHOUT_CLOSE_EVENTS: EventTypes = {
    **WITH_CLOSE_EVENTS,
    watchdog_events.FileModifiedEvent: FileEventType.FOUND,
    watchdog_events.FileMovedEvent: FileEventType.FOUND,
}


class _Handler(watchdog_events.FileSystemEventHandler):
    """Puts watchdog's events into the queue, from watchdog's thread."""

    def __init__(self, root: Path, types: EventTypes, events: FileEventQueue, barrier: WatchBarrier) -> None:
        self._prefix, self._types, self._events, self._barrier = f"{root}{os.sep}", types, events, barrier

    def dispatch(self, event: watchdog_events.FileSystemEvent) -> None:
        event_type = self._types.get(type(event))
        if event_type is None:
            return
        source, target = os.fsdecode(event.src_path), os.fsdecode(event.dest_path)
        if isinstance(event, watchdog_events.FileSystemMovedEvent):
            if event.is_directory and source:
                self._put(source, FolderEventType.GONE)
            if target:
                self._put(target, event_type)
        else:
            self._put(source, event_type)

    def _put(self, full_path: str, event_type: FileEventType | FolderEventType) -> None:
        path = full_path.removeprefix(self._prefix) if full_path.startswith(self._prefix) else ""
        path = path.replace(os.sep, "/")
        if path.startswith(BARRIER_NAME):
            self._barrier.reached(path)
        elif not ignored(path):
            self._events.put(FileEvent(path, event_type))


@dataclass(frozen=True)
class FolderWatcher:
    """`reports_close`: the system reports when a file is closed after writing. `inode` is that of the watched
    folder; None when polling, which looks the folder up by name each time."""

    root: Path
    events: FileEventQueue
    barrier: WatchBarrier
    observer: BaseObserver
    reports_close: bool
    inode: int | None

    def open_for_writing(self, path: Path) -> bool | None:
        """Whether any process has the file open for writing; None if that is unknown now but an event will
        report when it is closed."""
        return open_for_writing(path) if self.reports_close else False

    async def caught_up(self) -> bool:
        """Waits until everything that happened before is in `events`; returns False if that is unknown. With
        polling it returns True at once: changes since the last poll are not known yet."""
        return self.inode is None or await self.barrier.wait()

    def check(self) -> None:
        """Raises Unavailable WATCH_LOST if the folder is no longer watched, for example after its removal."""
        try:
            inode = self.root.stat().st_ino
        except OSError:
            inode = -1
        alive = self.observer.is_alive() and all(emitter.is_alive() for emitter in self.observer.emitters)
        if not alive or inode == -1 or self.inode not in (None, inode):
            raise Unavailable("the cameras folder is no longer watched: does it still exist?", "WATCH_LOST")


@asynccontextmanager
async def watch_folder(root: Path, poll_seconds: float | None) -> AsyncIterator[FolderWatcher]:
    """Reports every change that happens after the block is entered. `root` is absolute and contains no links.
    `poll_seconds` None means native events.

    Raises Unavailable WATCH_REFUSED if the system refuses to watch the folder.
    """
    events, barrier = FileEventQueue(), WatchBarrier(root)
    observer, types = _observer(poll_seconds, events)
    handler = _Handler(root, types, events, barrier)
    try:
        observer.schedule(handler, str(root), recursive=True, event_filter=list(types))
        await asyncio.to_thread(observer.start)
    except OSError as error:
        raise Unavailable(
            f"the cameras folder cannot be watched: {error.strerror}; raise fs.inotify.max_user_watches or"
            " set LARES_INGEST_POLLING=true",
            "WATCH_REFUSED",
        ) from None
    try:
        inode = None if poll_seconds is not None else root.stat().st_ino
        yield FolderWatcher(root, events, barrier, observer, types is WITH_CLOSE_EVENTS, inode)
    finally:
        observer.stop()
        await asyncio.to_thread(observer.join, JOIN_SECONDS)


def _observer(poll_seconds: float | None, events: FileEventQueue) -> tuple[BaseObserver, EventTypes]:
    if poll_seconds is not None:
        from watchdog.observers.polling import PollingObserverVFS

        # lstat, so that links are neither followed nor lead into a circle.
        observer = PollingObserverVFS(os.lstat, os.scandir, polling_interval=poll_seconds)
        return observer, WITHOUT_CLOSE_EVENTS
    try:
        from ingest_svc.watching.watchdog_inotify import InotifyObserver
    except (ImportError, OSError, AttributeError):  # no inotify on this system
        from watchdog.observers import Observer

        return Observer(), WITHOUT_CLOSE_EVENTS
    return InotifyObserver(events), WITH_CLOSE_EVENTS
