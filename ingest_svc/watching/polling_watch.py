"""Watches the cameras folder by watchdog's snapshots, taken again and again.

There is a snapshot for each single folder. One of the whole tree would pass over every folder that it may not
read (`with contextlib.suppress(PermissionError)` in watchdog 7.1.0's `DirectorySnapshot.walk`), would not be
taken at all after any other error below, and could not be taken of a thousand folders in each other (`yield
from self.walk(path)`).
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from watchdog.utils.dirsnapshot import DirectorySnapshot, DirectorySnapshotDiff

from ingest_svc.watching.file_events import FileEventQueue, FileEventType, FolderEventType
from ingest_svc.watching.folder_state import folder_state, require_searchable
from ingest_svc.watching.folder_watch import FolderWatch, is_below, joined
from ingest_svc.watching.ignored_names import IgnoredNames

GONE = (FileNotFoundError, NotADirectoryError)


class _Snapshot(DirectorySnapshot):
    """The entries of one folder. Raises OSError if it cannot be listed, or an entry cannot be looked at."""

    def __init__(self, folder: str, is_wanted: Callable[[os.DirEntry[str]], bool]) -> None:
        failed = list[OSError]()  # watchdog takes some failures for an empty folder, or no entry

        def status(path: str) -> os.stat_result:
            try:
                return os.lstat(path)
            except GONE:
                raise
            except OSError as error:
                failed.append(error)
                raise

        def entries(path: str | None) -> Iterator[os.DirEntry[str]]:
            try:
                with os.scandir(path) as found:
                    return iter([entry for entry in found if is_wanted(entry)])
            except OSError as error:
                failed.append(error)
                raise

        super().__init__(folder, recursive=False, stat=status, listdir=entries)
        if failed:
            raise failed[0]

    def mtime(self, path: bytes | str) -> Any:
        """What watchdog compares. By itself it would compare only the mtime, which a program may set back."""
        status = self.stat_info(path)
        return status.st_mtime_ns, status.st_ctime_ns

    def files(self) -> set[bytes | str]:
        return {path for path in self.paths if not self.isdir(path)}


class _Folder(NamedTuple):
    identity: tuple[int, int]
    folders: list[str]
    snapshot: _Snapshot


class PollingWatch(FolderWatch):
    """Links are neither followed nor lead into a circle."""

    reports_close = False

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
            for full in _changed(before.snapshot, now.snapshot):
                self._put(joined(path, os.path.basename(full)), FileEventType.FOUND)

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
        snapshot = _Snapshot(full, lambda entry: self._is_wanted(entry, joined(path, entry.name)))
        folders = sorted(snapshot.paths - snapshot.files() - {full})
        return _Folder(identity, [joined(path, os.path.basename(os.fsdecode(f))) for f in folders], snapshot)

    def _is_wanted(self, entry: os.DirEntry[str], path: str) -> bool:
        if entry.is_dir(follow_symlinks=False):
            return not self._ignored.folder(path)
        is_photo = entry.is_file(follow_symlinks=False) or entry.is_symlink()
        return is_photo and not self._ignored.file(path)


def _changed(before: _Snapshot, now: _Snapshot) -> list[str]:
    """The files that are new or changed. watchdog counts a file as a folder if it has the path, or the
    inode, of a folder that is no longer there."""
    changes = DirectorySnapshotDiff(before, now)
    changed = {target for _, target in (*changes.files_moved, *changes.dirs_moved)}
    changed.update(changes.files_created, changes.files_modified, changes.files_attrib)
    changed.update(changes.dirs_modified, changes.dirs_attrib)
    return sorted(os.fsdecode(path) for path in changed & now.files())
