"""What lies in the cameras folder, and what of it is nobody's photo."""

import os
from collections.abc import Iterator
from pathlib import Path

import structlog

from ingest_svc.fingerprint import Fingerprint, listed, real_folder

log = structlog.get_logger(__name__)

LITTER = {"thumbs.db", "desktop.ini"}
UNFINISHED = (".part", ".tmp")


def ignored(path: str) -> bool:
    """Dotfiles and what is in dot-folders, files still under a temporary name, and systems' litter."""
    name = path.rpartition("/")[2].lower()
    return (
        any(part.startswith(".") for part in path.split("/")) or name in LITTER or name.endswith(UNFINISHED)
    )


def camera_folder(path: str) -> str:
    """The first level of a path relative to the cameras folder."""
    return path.partition("/")[0]


def camera_folders(root: Path) -> list[str]:
    """The names of the folders of the first level."""
    with os.scandir(root) as entries:
        return [e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]


def walk(root: Path, below: str = "") -> Iterator[Fingerprint]:
    """Every file that counts, at any depth. Links to folders are not entered. What vanishes meanwhile is
    left out."""
    folders = [below] if real_folder(root, below) else []
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(root / folder) as entries:
                found = list(entries)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                log.warning("folder cannot be read", path=folder, error=str(error))
            continue
        for entry in found:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith("."):
                    folders.append(path)
            elif not ignored(path) and (file := listed(root, path)) is not None:
                yield file
