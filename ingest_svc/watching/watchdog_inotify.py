"""An observer for watchdog that reports when inotify events are lost.

watchdog 7.1.0 only logs an overflow of the kernel's queue and an exhausted limit of watches, and has no
public hook for either. So this module subclasses its internal `InotifyFD`. Nothing else uses watchdog's
internals.
"""

import errno
import warnings
from typing import Any

import structlog
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyFullEmitter
from watchdog.observers.inotify_c import InotifyEvent, InotifyFD, WatchDescriptor

from ingest_svc.watching.file_events import FileEventQueue

log = structlog.get_logger(__name__)


class _Inotify(InotifyFD):
    def __init__(self, events: FileEventQueue) -> None:
        super().__init__()
        self._events = events

    def handle_event(self, event: InotifyEvent) -> None:
        super().handle_event(event)  # first, because it renews the watches after an overflow
        if event.is_queue_overflow:
            self._events.mark_lost()

    def add_callback(self, *args: Any, **kwargs: Any) -> WatchDescriptor:
        try:
            return super().add_callback(*args, **kwargs)
        except OSError as error:
            if error.errno == errno.ENOSPC and not self._events.blind:
                self._events.blind = True
                log.error("too many folders for native events, raise fs.inotify.max_user_watches")
            raise


class InotifyObserver(BaseObserver):
    """Marks `events` as lost after an overflow, and as blind if some folders cannot be watched."""

    def __init__(self, events: FileEventQueue) -> None:
        # A folder that is made while watchdog watches its parent may be watched twice, which is harmless.
        warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)
        self._inotify = _Inotify(events)
        self._inotify.start()
        # This emitter also reports a move for a file that comes from outside the watched folder.
        super().__init__(InotifyFullEmitter, inotify_fd=self._inotify)

    def on_thread_stop(self) -> None:
        super().on_thread_stop()
        self._inotify.stop()
        self._inotify.join()
