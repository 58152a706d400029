"""Finds out what happened in folders by looking at every entry, again and again."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.watching.file_events import FileEventType, FolderEventType
from ingest_svc.watching.folder_state import folder_state, require_searchable
from ingest_svc.watching.folder_watch import GONE, folder_of, joined
from ingest_svc.watching.ignored_names import IgnoredNames

# A poll of very many files may take long: the pause after it is at least this many times as long.
PAUSE_SHARE = 4.0

# Inode, size, mtime and ctime: a program may set the mtime back.
FileState = tuple[int, int, int, int]


def pause_after(took: float, poll_seconds: float) -> float:
    """Seconds until the next poll, after one that took `took`."""
    return max(poll_seconds, PAUSE_SHARE * took)


class _Folder(NamedTuple):
    """`folders` are the paths of those in it; `files` the states of its files, by path."""

    identity: tuple[int, int]
    folders: list[str]
    files: dict[str, FileState]


class FolderPoll:
    """`put` receives what happened since the poll before. `on_failure` is called with a folder that cannot be
    read. It keeps what was known, and is reported as MISSED once it can be read.

    Not watchdog's DirectorySnapshot, which passes over every folder that it may not read, takes no snapshot
    at all after any other error, and cannot be taken of a thousand folders in each other.
    """

    def __init__(
        self,
        root: CamerasRoot,
        ignored: IgnoredNames,
        put: Callable[[str, FileEventType | FolderEventType], None],
        on_failure: Callable[[str, OSError], None],
    ) -> None:
        self._root, self._ignored, self._put, self._on_failure = root, ignored, put, on_failure
        self._known: dict[str, _Folder] = {}
        self._failed: set[str] = set()
        self._distrusted: deque[str] = deque()

    def distrust(self, folder: str) -> None:
        """May be called from any thread."""
        self._distrusted.append(folder)

    def identity(self, folder: str) -> tuple[int, int] | None:
        """None if the folder could not be read by the last poll."""
        return None if folder in self._failed or folder not in self._known else self._known[folder].identity

    def has(self, file: str) -> bool:
        """Whether the last poll has found the file."""
        folder = self._known.get(folder_of(file))
        return folder is not None and file in folder.files

    def poll(self, tops: Iterable[str]) -> None:
        """Looks at the folders `tops`, and at all that is below them. No links are followed but those that
        `root` follows."""
        missed = {self._distrusted.popleft() for _ in range(len(self._distrusted))} | self._failed
        before, self._known, self._failed = self._known, {}, set()
        for top in tops:
            self._read(top, before)
        missed.update(
            path
            for path, folder in self._known.items()
            if path in before and before[path].identity != folder.identity
        )
        told = set[str]()
        for path in sorted(missed):
            if path in self._known and path not in self._failed and path not in told:
                self._put(path, FolderEventType.MISSED)
                told.update(self._below(path, self._known))
        for path in before:
            if path not in self._known and folder_of(path) in self._known and path:
                self._put(path, FolderEventType.GONE)
        for path in self._known.keys() - told:
            self._report(path, before)

    def _report(self, path: str, before: dict[str, _Folder]) -> None:
        now, earlier = self._known[path], before.get(path)
        if earlier is None:
            if folder_of(path) in before:  # a new folder in one that is not new: it is listed with all below
                self._put(path, FolderEventType.APPEARED)
        elif earlier is not now:
            for file, state in now.files.items():
                if earlier.files.get(file) != state:
                    self._put(file, FileEventType.FOUND)

    def _read(self, top: str, before: dict[str, _Folder]) -> None:
        folders = [top]
        while folders:
            folder = folders.pop()
            try:
                self._known[folder] = found = self._list(folder, before.get(folder))
            except OSError as error:
                if not isinstance(error, GONE) or self._root.is_expected(folder):
                    self._fail(folder, error)
                    self._known |= {path: before[path] for path in self._below(folder, before)}
            else:
                folders += found.folders

    @staticmethod
    def _below(path: str, folders: dict[str, _Folder]) -> Iterator[str]:
        """The folder and those below it, as far as they are among `folders`."""
        paths = [path]
        while paths:
            path = paths.pop()
            if path in folders:
                yield path
                paths += folders[path].folders

    def _list(self, path: str, before: _Folder | None) -> _Folder:
        full = self._root.full(path)
        found = _Folder(folder_state(full).identity, [], {})
        require_searchable(full)
        with os.scandir(full) as entries:
            for entry in entries:
                below = joined(path, entry.name)
                try:
                    if entry.is_dir(follow_symlinks=False) or self._root.is_link(below):
                        if not self._ignored.folder(below):
                            found.folders.append(below)
                    elif (
                        entry.is_file(follow_symlinks=False) or entry.is_symlink()
                    ) and not self._ignored.file(below):
                        found.files[below] = state_of(entry)
                except GONE:
                    continue
                except OSError as error:  # the other entries are well
                    self._fail(path, error)
                    if before is not None and below in before.files:
                        found.files[below] = before.files[below]
                    elif before is not None and below in before.folders:
                        found.folders.append(below)
        return found

    def _fail(self, folder: str, error: OSError) -> None:
        self._failed.add(folder)
        self._on_failure(folder, error)


def state_of(entry: os.DirEntry[str]) -> FileState:
    """Raises OSError."""
    status = entry.stat(follow_symlinks=False)
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
