"""Watches the cameras folder by watchdog's inotify, which has to be told every single folder.

A folder can slip through: it could not be read when it was made, it was renamed before it could be watched,
another file system was mounted over it. So there is a record of what is watched, and of what it looked like,
which is compared with what exists: for the folder that an event is about at once, for all of them regularly.
Folders for which the system has no watch left are polled.
"""

import errno
import os
import time
from collections import deque
from typing import NamedTuple

import structlog

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.watching.file_events import FileEventQueue, FileEventType, FolderEventType
from ingest_svc.watching.folder_poll import FolderPoll, pause_after
from ingest_svc.watching.folder_state import FolderState, folder_state, require_searchable
from ingest_svc.watching.folder_watch import GONE, FolderWatch, folder_of, joined
from ingest_svc.watching.ignored_names import IgnoredNames
from ingest_svc.watching.watch_barrier import BARRIER_NAME, WatchBarrier
from ingest_svc.watching.watchdog_inotify import FolderInotify, InotifyEvent, WatchDescriptor

log = structlog.get_logger(__name__)

# How often the record is compared with what exists; more often while the cameras folder itself is away.
LOOK_SECONDS, LOOK_AWAY_SECONDS = 5.0, 0.5
# How often folders without a watch are polled.
POLL_SECONDS = 1.0


NO_WATCH_LEFT = {errno.ENOSPC, errno.ENOMEM}


class _Folder(NamedTuple):
    watch: WatchDescriptor
    state: FolderState


class NativeWatch(FolderWatch):
    """Raises OSError if the system has no inotify, or no watch, to give."""

    reports_close = True

    def __init__(
        self, root: CamerasRoot, ignored: IgnoredNames, events: FileEventQueue, barrier: WatchBarrier
    ) -> None:
        super().__init__(root, ignored, events)
        self._barrier, self._inotify = barrier, FolderInotify()
        self._folders: dict[str, _Folder] = {}
        self._path_of: dict[WatchDescriptor, str] = {}
        # Readable folders for which the system has no watch left; they are polled, with all that is below.
        self._without_watch: set[str] = set()
        self._polled: set[str] = set()
        self._poll_failed: dict[str, str] = {}
        self._poll = FolderPoll(self._root, ignored, self._put, self._poll_fails)
        self._below: dict[str, set[str]] = {}
        self._distrusted: deque[str] = deque()
        self._look_now = False

    def prepare(self) -> None:
        try:
            self._inotify.add(self._full(""))
        except OSError as error:
            if error.errno in NO_WATCH_LEFT:
                raise
        self._root.refresh()
        self._watch("")
        self._tell()

    def distrust(self, folder: str) -> None:
        self._distrusted.append(folder)

    def missing(self, file: str) -> None:
        super().missing(file)
        self._inotify.wake()

    def look(self) -> None:
        self._look_now = True
        self._inotify.wake()

    def _watch_until_stopped(self) -> None:
        next_look, next_poll = time.monotonic() + LOOK_SECONDS, 0.0
        while not self._stopping.is_set():
            until = min(next_look, next_poll) if self._without_watch else next_look
            event = self._inotify.next_event(until - time.monotonic())
            if event is not None:
                self._handle(event)
            if self._look_now or time.monotonic() >= next_look:
                self._look_now = False
                self._look_at_all()
                next_look = time.monotonic() + (LOOK_AWAY_SECONDS if self.identity is None else LOOK_SECONDS)
            if (self._without_watch or self._polled) and time.monotonic() >= next_poll:
                next_poll = self._poll_those_without_watch()
            self._look_for_missing()
            self._tell()

    def close(self) -> None:
        self._inotify.close()

    def _handle(self, event: InotifyEvent) -> None:
        if event.is_queue_overflow:
            self._events.mark_lost()
            self._look_now = True
            return
        folder = self._path_of.get(event.wd)
        if folder is None:
            if not event.is_ignored:
                self._inotify.remove(event.wd)  # the folder was moved out of the cameras folder
            return
        path = joined(folder, os.fsdecode(event.name))
        if not event.name:
            self._handle_own(folder, event)
            return
        if not folder and self._root.may_be_link(path):
            self._look_at_links()
        if event.is_directory:
            self._handle_folder(path, event)
        elif not self._root.is_link(path):
            self._handle_file(path, event)

    def _handle_own(self, folder: str, event: InotifyEvent) -> None:
        """An event about a watched folder itself."""
        if event.is_ignored:  # deleted, or its file system was unmounted
            self._forget(folder)
            self._watch_again(folder)
        elif (event.is_delete_self or event.is_move_self) and not folder:
            self._events.mark_lost()  # whatever was looked for meanwhile was not there
            self._look_at(folder)
        elif (event.is_delete_self or event.is_move_self) and self._root.is_link(folder):
            self._forget(folder)  # for the same reason, it is to be scanned
            self._watch_again(folder)
        elif event.is_attrib:
            self._look_at(folder)

    def _handle_folder(self, path: str, event: InotifyEvent) -> None:
        if self._ignored.folder(path):
            return
        if event.is_create or event.is_moved_to:
            if not self._is_watched(path):  # already, because its events are late
                self._watch(path)
                self._put(path, FolderEventType.APPEARED)
        elif event.is_delete or event.is_moved_from:
            self._forget(path)
            self._put(path, FolderEventType.GONE)
            self._watch_again(path)  # by now there may be another folder
        elif event.is_attrib:
            self._look_at(path)

    def _handle_file(self, path: str, event: InotifyEvent) -> None:
        if path.startswith(BARRIER_NAME):
            self._barrier.reached(path)
        elif not self._ignored.file(path):
            if event.is_close_write or event.is_moved_to:
                self._put(path, FileEventType.COMPLETE)
            elif event.is_modify:
                self._put(path, FileEventType.WRITTEN)
            elif event.is_create or event.is_attrib:
                self._put(path, FileEventType.FOUND)

    def _look_at_links(self) -> None:
        """Watches what the links lead to now."""
        changed = self._root.refresh()
        for link in changed:
            self._forget(link)
        for link in sorted(changed):
            self._watch_again(link)
            if link not in self._folders:
                self._put(link, FolderEventType.GONE)
                self._report_again(link)  # a link that is not followed any more is a file

    def _look_at_all(self) -> None:
        self._look_at_links()
        for folder in {self._distrusted.popleft() for _ in range(len(self._distrusted))}:
            if folder in self._polled or folder_of(folder) not in self._folders:
                self._poll.distrust(folder)
            else:
                self._forget(folder)
                self._watch_again(folder)
        for folder in [*self._folders, *self._failed, *self._without_watch]:
            self._look_at(folder)
        if not self._folders:
            self._watch_again("")

    def _look_at(self, folder: str) -> None:
        """Makes sure that the folder is watched, and the folders in it are known, if it exists."""
        known = self._folders.get(folder)
        if known is None:
            self._watch_again(folder)
            return
        try:
            state = folder_state(self._full(folder))
        except OSError as error:
            self._forget(folder)
            if isinstance(error, GONE) and not self._root.is_expected(folder):
                self._put(folder, FolderEventType.GONE)
            else:
                self._fail(folder, error)
            return
        if state.identity != known.state.identity:
            self._forget(folder)
            self._watch_again(folder)
        elif not known.state.unchanged(state):
            for below in self._list(folder, _Folder(known.watch, state)):
                if below not in self._folders:
                    self._watch_again(below)

    def _watch_again(self, folder: str) -> None:
        """Watches a folder that should be watched already; what happened in it is unknown."""
        self._watch(folder)
        if folder in self._folders:
            self._put(folder, FolderEventType.MISSED)

    def _is_watched(self, folder: str) -> bool:
        """Whether the watch of the folder that has this path now is known."""
        known = self._folders.get(folder)
        try:
            return known is not None and self._inotify.add(self._full(folder)) == known.watch
        except OSError:
            return False

    def _watch(self, path: str) -> None:
        """Watches the folder, and those below it, if that in which it is is watched. First each folder is
        watched, then its entries are listed, so that none is missed."""
        if path and folder_of(path) not in self._folders:
            self._forget(path)
            return
        folders = [path]
        while folders:
            folder = folders.pop()
            full = self._full(folder)
            self._failed.pop(folder, None)
            self._without_watch.discard(folder)
            try:
                state = folder_state(full)
                watch = self._inotify.add(full)
                if self._is_elsewhere(watch, folder, state):
                    raise OSError(errno.ELOOP, "the same folder is there under two names")
            except OSError as error:
                self._forget(folder)
                if folder and error.errno in NO_WATCH_LEFT:
                    self._without_watch.add(folder)
                    self._place(folder)
                elif not isinstance(error, GONE) or self._root.is_expected(folder):
                    self._fail(folder, error)
                continue
            folders += self._list(folder, _Folder(watch, state))

    def _list(self, folder: str, found: _Folder) -> list[str]:
        """Records a watched folder, and returns the folders in it."""
        full = self._full(folder)
        self._record(folder, found)
        try:
            require_searchable(full)
            with os.scandir(full) as entries:
                names = [
                    entry.name
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False) or (not folder and self._root.is_link(entry.name))
                ]
        except OSError as error:
            self._forget(folder)
            if not isinstance(error, GONE) or self._root.is_expected(folder):
                self._fail(folder, error)
            return []
        paths = [joined(folder, name) for name in names]
        return [path for path in paths if not self._ignored.folder(path)]

    def _record(self, folder: str, found: _Folder) -> None:
        before, moved_from = self._folders.get(folder), self._path_of.get(found.watch)
        if before is not None and before.watch != found.watch:
            self._path_of.pop(before.watch, None)
        if moved_from is not None and moved_from != folder:
            self._folders.pop(moved_from, None)
        self._folders[folder], self._path_of[found.watch] = found, folder
        self._place(folder)
        if not folder:
            self.identity = found.state.identity

    def _is_elsewhere(self, watch: WatchDescriptor, folder: str, state: FolderState) -> bool:
        """Whether the same folder exists under another name, too, as a bind mount does: its events would come
        under one of the names only."""
        other = self._path_of.get(watch, folder)
        if other == folder:
            return False
        try:
            return folder_state(self._full(other)).identity == state.identity
        except OSError:
            return False

    def _forget(self, folder: str) -> None:
        """Forgets a folder, and everything below it. The watches remain until they report something."""
        if folder:
            self._below.get(folder.rpartition("/")[0], set()).discard(folder)
        paths = [folder]
        while paths:
            path = paths.pop()
            paths += self._below.pop(path, ())
            self._failed.pop(path, None)
            self._without_watch.discard(path)
            known = self._folders.pop(path, None)
            if known is not None and self._path_of.get(known.watch) == path:
                del self._path_of[known.watch]
        if not folder:
            self.identity = None

    def _fail(self, folder: str, error: OSError) -> None:
        super()._fail(folder, error)
        self._place(folder)

    def _place(self, folder: str) -> None:
        """Notes in which folder this one is, so that it is forgotten with it."""
        if folder:
            self._below.setdefault(folder.rpartition("/")[0], set()).add(folder)

    def _poll_those_without_watch(self) -> float:
        """Returns when to poll them again."""
        began, self._poll_failed = time.monotonic(), {}
        self._poll.poll(self._without_watch)
        for folder in self._without_watch - self._polled:  # what happened before is unknown
            self._put(folder, FolderEventType.MISSED)
        if self._without_watch and not self._polled:
            log.error("too many folders to watch, some are polled: raise fs.inotify.max_user_watches")
        self._polled = set(self._without_watch)
        self.limit = (
            f"the system cannot watch {len(self._polled)} folders, which are polled: raise"
            " fs.inotify.max_user_watches"
            if self._polled
            else ""
        )
        now = time.monotonic()
        return now + pause_after(now - began, POLL_SECONDS)

    def _poll_fails(self, folder: str, error: OSError) -> None:
        self._poll_failed[folder] = self._warn(folder, error)

    def _look_for_missing(self) -> None:
        for file in self._take_missing():
            error = self._report_again(file)
            if error is not None and self._poll.has(file):
                self._missing.append(file)
            elif error is not None and not isinstance(error, GONE):
                self.distrust(folder_of(file))
            elif error is not None and (camera := file.partition("/")[0]) in self._root.links:
                self._look_whether_away(camera)

    def _look_whether_away(self, link: str) -> None:
        """Whatever is looked for while the target of a link is away is not there."""
        try:
            folder_state(self._full(link))
        except OSError:
            self.distrust(link)
            self.look()

    def _tell(self) -> None:
        self._publish(self._failed | self._poll_failed if self._poll_failed else self._failed)
