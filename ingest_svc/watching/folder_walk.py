"""Lists the files and folders of the cameras folder."""

import os
from collections.abc import Callable, Collection, Iterator

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.fingerprint import Fingerprint, fingerprint_in_real_folder, is_real_folder
from ingest_svc.watching.ignored_names import IgnoredNames


def camera_folder(path: str) -> str:
    """The first level of a path that is relative to the cameras folder."""
    return path.partition("/")[0]


def outermost(folders: Collection[str]) -> list[str]:
    """Those that are in none of the others."""
    return [folder for folder in folders if not any(outer in folders for outer in _outer(folder))]


def _outer(folder: str) -> Iterator[str]:
    while folder:
        folder = folder.rpartition("/")[0]
        yield folder


def camera_folder_names(root: CamerasRoot, ignored: IgnoredNames) -> list[str]:
    """Also the names of links that are followed. Raises OSError if the cameras folder cannot be listed."""
    with os.scandir(root.path) as entries:
        names = [e.name for e in entries if e.is_dir(follow_symlinks=False) or root.is_link(e.name)]
    return [name for name in names if not ignored.folder(name)]


def walk(
    root: CamerasRoot, below: str, ignored: IgnoredNames, on_failure: Callable[[str], None]
) -> Iterator[Fingerprint]:
    """Yields every file in the folder `below`, at any depth, that is not ignored.

    Links to folders are not followed, except those that `root` follows. Files that vanish meanwhile are left
    out; `on_failure` is called with each folder that cannot be listed, or is not there. Raises OSError if it
    is the cameras folder itself.
    """
    folders = [below]
    if below and not is_real_folder(root, below):
        on_failure(below)
        return
    while folders:
        folder = folders.pop()
        if root.is_link(folder) and not is_real_folder(root, folder):
            on_failure(folder)
            continue
        try:
            with os.scandir(root.full(folder)) as entries:
                found = list(entries)
        except OSError:
            if not folder:
                raise
            on_failure(folder)
            continue
        for entry in found:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False) or root.is_link(path):
                if not ignored.folder(path):
                    folders.append(path)
            elif not ignored.file(path) and (file := fingerprint_in_real_folder(root, path)) is not None:
                yield file
