"""watchdog's inotify observer, telling what watchdog itself only logs: that events are lost."""

import errno
import warnings
from typing import Any

import structlog
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyFullEmitter
from watchdog.observers.inotify_c import InotifyEvent, InotifyFD, WatchDescriptor

from ingest_svc.sightings import Sightings

log = structlog.get_logger(__name__)


class _Inotify(InotifyFD):
    def __init__(self, sightings: Sightings) -> None:
        super().__init__()
        self._sightings = sightings

    def handle_event(self, event: InotifyEvent) -> None:
        super().handle_event(event)  # first: after an overflow it renews the watches
        if event.is_queue_overflow:
            self._sightings.lose()

    def add_callback(self, *args: Any, **kwargs: Any) -> WatchDescriptor:
        try:
            return super().add_callback(*args, **kwargs)
        except OSError as error:
            if error.errno == errno.ENOSPC and not self._sightings.blind:
                self._sightings.blind = True
                log.error("too many folders for native events: raise fs.inotify.max_user_watches")
            raise


class InotifyObserver(BaseObserver):
    """Tells `sightings` when events were lost, and when the system has no watches left for some folders."""

    def __init__(self, sightings: Sightings) -> None:
        # A folder that is made while its parent is looked through is watched twice over, to no harm.
        warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)
        self._inotify = _Inotify(sightings)
        self._inotify.start()
        # The full emitter says `moved` for a file that comes from outside, too.
        super().__init__(InotifyFullEmitter, inotify_fd=self._inotify)

    def on_thread_stop(self) -> None:
        super().on_thread_stop()
        self._inotify.stop()
        self._inotify.join()
