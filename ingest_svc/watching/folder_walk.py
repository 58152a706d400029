"""Lists the files and folders of the cameras folder, and knows which names to ignore."""

import os
from collections.abc import Iterator
from pathlib import Path

import structlog

from ingest_svc.fingerprint import Fingerprint, fingerprint_in_real_folder, is_real_folder

log = structlog.get_logger(__name__)

SYSTEM_FILES = {"thumbs.db", "desktop.ini"}
TEMPORARY_SUFFIXES = (".part", ".tmp")


def ignored(path: str) -> bool:
    """Whether the path is hidden, in a hidden folder, under a temporary name, or a file of the system."""
    name = path.rpartition("/")[2].lower()
    return (
        any(part.startswith(".") for part in path.split("/"))
        or name in SYSTEM_FILES
        or name.endswith(TEMPORARY_SUFFIXES)
    )


def camera_folder(path: str) -> str:
    """The first level of a path that is relative to the cameras folder."""
    return path.partition("/")[0]


def camera_folder_names(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return [e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]


def walk(root: Path, below: str = "") -> Iterator[Fingerprint]:
    """Yields every file in the folder `below`, at any depth, that is not ignored.

    Links to folders are not followed. Files that vanish meanwhile are left out.
    """
    folders = [below] if is_real_folder(root, below) else []
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(root / folder) as entries:
                found = list(entries)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                log.warning("folder not readable", path=folder, error=str(error))
            continue
        for entry in found:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith("."):
                    folders.append(path)
            elif not ignored(path) and (file := fingerprint_in_real_folder(root, path)) is not None:
                yield file
