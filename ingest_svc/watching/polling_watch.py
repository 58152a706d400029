"""Watches the cameras folder by looking at every entry again and again, as network mounts need."""

import threading
import time

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.watching.file_events import FileEventQueue
from ingest_svc.watching.folder_poll import FolderPoll, pause_after
from ingest_svc.watching.folder_watch import FolderWatch
from ingest_svc.watching.ignored_names import IgnoredNames


class PollingWatch(FolderWatch):
    reports_close = False

    def __init__(
        self,
        root: CamerasRoot,
        ignored: IgnoredNames,
        events: FileEventQueue,
        poll_seconds: float,
        limit: str = "",
    ) -> None:
        super().__init__(root, ignored, events)
        self.limit = limit
        self._poll_seconds, self._wake = poll_seconds, threading.Event()
        self._poll = FolderPoll(self._root, ignored, self._put, self._fail)

    def prepare(self) -> None:
        self._look_at_all()

    def distrust(self, folder: str) -> None:
        self._poll.distrust(folder)

    def look(self) -> None:
        self._wake.set()

    def close(self) -> None: ...

    def _watch_until_stopped(self) -> None:
        pause = self._poll_seconds
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            if self._stopping.is_set():
                return
            began = time.monotonic()
            self._look_at_all()
            pause = pause_after(time.monotonic() - began, self._poll_seconds)

    def _look_at_all(self) -> None:
        self._failed = {}
        self._root.refresh()
        self._poll.poll([""])
        self.identity = self._poll.identity("")
        for file in self._take_missing():
            # If this poll has not found it, the next one that does will report it.
            if self._poll.has(file) and self._report_again(file) is not None:
                self._missing.append(file)
        self._publish(self._failed)
