"""Watches the cameras folder by listing all of it, again and again."""

import os
import stat
import threading
from collections import deque
from pathlib import Path
from typing import NamedTuple

from ingest_svc.watching.file_events import FileEventQueue, FileEventType, FolderEventType
from ingest_svc.watching.folder_state import folder_state, require_searchable
from ingest_svc.watching.folder_watch import FolderWatch, is_below, joined
from ingest_svc.watching.ignored_names import IgnoredNames

GONE = (FileNotFoundError, NotADirectoryError)

# Size, mtime, ctime and inode of a file.
_File = tuple[int, int, int, int]


class _Folder(NamedTuple):
    identity: tuple[int, int]
    folders: list[str]
    files: dict[str, _File]


class PollingWatch(FolderWatch):
    """Links are neither followed nor lead into a circle."""

    def __init__(
        self, root: Path, ignored: IgnoredNames, events: FileEventQueue, poll_seconds: float
    ) -> None:
        super().__init__(root, ignored, events)
        self._poll_seconds, self._wake = poll_seconds, threading.Event()
        self._known: dict[str, _Folder] = {}
        self._distrusted: deque[str] = deque()

    def prepare(self) -> None:
        found: dict[str, _Folder] = {}
        self._read("", found, {})
        if "" in self._failed:
            raise OSError(self._failed[""])
        self._known, self.identity = found, found[""].identity
        self._tell()

    def distrust(self, folder: str) -> None:
        self._distrusted.append(folder)

    def look(self) -> None:
        self._wake.set()

    def close(self) -> None: ...

    def _watch_until_stopped(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self._poll_seconds)
            self._wake.clear()
            if not self._stopping.is_set():
                self._poll()

    def _poll(self) -> None:
        missed = {self._distrusted.popleft() for _ in range(len(self._distrusted))} | set(self._failed)
        before, found = self._known, dict[str, _Folder]()
        self._failed = {}
        self._read("", found, before)
        self._tell()
        if "" in self._failed:
            self.identity = None  # what was known is compared with what is there when it is back
            return
        self._known, self.identity = found, found[""].identity
        missed |= {
            path for path, folder in before.items() if path in found and self._replaced(folder, found[path])
        }
        reported = [folder for folder in missed if folder in found and folder not in self._failed]
        for folder in reported:
            self._put(folder, FolderEventType.MISSED)
        for path in before:
            if path not in found and path.rpartition("/")[0] in found:
                self._put(path, FolderEventType.GONE)
        for path, folder_found in found.items():
            if not any(is_below(path, folder) for folder in reported):
                self._report(path, before.get(path), folder_found, before)

    def _report(self, path: str, before: _Folder | None, now: _Folder, known: dict[str, _Folder]) -> None:
        if before is None:
            if path.rpartition("/")[0] in known:  # a new folder in one that is not new, listed with all below
                self._put(path, FolderEventType.APPEARED)
            return
        if before is not now:
            for name, file in now.files.items():
                if before.files.get(name) != file:
                    self._put(joined(path, name), FileEventType.FOUND)

    @staticmethod
    def _replaced(before: _Folder, now: _Folder) -> bool:
        return before.identity != now.identity

    def _read(self, path: str, found: dict[str, _Folder], before: dict[str, _Folder]) -> None:
        """Reads the folder and those below it. What cannot be read stays as it was before."""
        folders = [path]
        while folders:
            folder = folders.pop()
            try:
                found[folder] = self._list(folder)
            except OSError as error:
                if not isinstance(error, GONE) or not folder:
                    self._fail(folder, error)
                    found.update({p: known for p, known in before.items() if is_below(p, folder)})
                continue
            folders += found[folder].folders

    def _list(self, path: str) -> _Folder:
        full = self._full(path)
        identity = folder_state(full).identity
        require_searchable(full)
        listed = _Folder(identity, [], {})
        with os.scandir(full) as entries:
            for entry in entries:
                below = joined(path, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    if not self._ignored.folder(below):
                        listed.folders.append(below)
                elif not self._ignored.file(below):
                    try:
                        status = os.lstat(entry.path)
                    except FileNotFoundError:
                        continue
                    if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                        listed.files[entry.name] = (
                            status.st_size,
                            status.st_mtime_ns,
                            status.st_ctime_ns,
                            status.st_ino,
                        )
        return listed
