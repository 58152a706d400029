"""watchdog's inotify, with a watch for each single folder.

Written for watchdog 7.1.0, of whose internal module `inotify_c` this one uses `InotifyFD`: the thread that
reads and parses the kernel's events, and the calls that add and remove watches. Nothing else uses watchdog's
internals.

`InotifyWatchGroup`, and with it watchdog's emitters and observers, is left out. It decides by itself which
folders are watched and what their paths are, and nobody can ask it, or correct it:

- `_add_callback` has `except OSError: ... if path == self.path: raise`, so that a folder below that cannot be
  watched when it appears is never watched, and nobody is told.
- `on_event` has only a to-do and `pass` for `event.is_moved_from`, so that a folder that was moved out is
  still reported under the path that it had, also when another folder is there.
- `_add_all_callbacks` goes by `os.walk`, which passes over every folder that it cannot list.
- `build_and_queue_event` ends in `self.stop()` when the folder at the top is deleted.
"""

import errno
import os
import warnings
from queue import Empty, SimpleQueue

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

__all__ = ["OVERFLOW", "FolderInotify", "InotifyEvent", "WatchDescriptor"]

WATCHED = Mask(
    InotifyConstants.IN_MODIFY
    | InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MOVE
    | InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_DONT_FOLLOW
)
# There is only one callback for each watch.
CALLBACK = CallbackId(1)
OVERFLOW = InotifyEvent(WatchDescriptor(-1), InotifyConstants.IN_Q_OVERFLOW, 0, b"")
MAX_WAITING_EVENTS = 20_000


class FolderInotify:
    """Adds and removes watches, and gives out their events in order. Raises OSError if the system has no
    inotify to give."""

    def __init__(self) -> None:
        # Adding a folder that is watched already is harmless.
        warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)
        self._waiting: SimpleQueue[InotifyEvent | None] = SimpleQueue()
        self._lost = False
        self._inotify = InotifyFD()
        self._inotify.start()

    def add(self, folder: str) -> WatchDescriptor:
        """Watches a folder. The watch belongs to the folder, whatever its name: adding a folder that is
        watched returns the same watch. Raises OSError."""
        watch = self._inotify.add_callback(os.fsencode(folder), WATCHED, self, CALLBACK)
        if watch == -1:  # `InotifyFD._raise_error` has `if err != errno.EACCES: raise`
            self.remove(watch)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return watch

    def remove(self, watch: WatchDescriptor) -> None:
        """Does nothing if there is no such watch any more."""
        self._inotify.remove_callbacks([(watch, CALLBACK)])

    def next_event(self, timeout: float) -> InotifyEvent | None:
        """Waits for an event, for at most `timeout` seconds, or until `wake`. Raises OSError."""
        if not self._inotify.is_alive():
            raise OSError("watchdog's thread, which reads the events, has ended")
        if self._lost:
            self._lost = False
            return OVERFLOW
        try:
            return self._waiting.get(timeout=max(0.0, timeout))
        except Empty:
            return None

    def wake(self) -> None:
        """Ends a `next_event`. May be called from any thread."""
        if self._waiting.empty():
            self._waiting.put(None)

    def close(self) -> None:
        self._inotify.stop()
        self._inotify.join()

    # watchdog's protocol WatchCallback; its thread calls these.

    def on_event(self, event: InotifyEvent) -> None:
        if self._waiting.qsize() < MAX_WAITING_EVENTS:
            self._waiting.put(event)
        else:  # told before any event that is put from now on
            self._lost = True

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        self.on_event(InotifyEvent(wd, InotifyConstants.IN_IGNORED, 0, b""))

    def on_queue_overflow(self) -> None:
        self.on_event(OVERFLOW)
