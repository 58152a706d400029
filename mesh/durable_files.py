"""File operations whose results survive a power failure."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable. Blocks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, as `write_whole` does. Blocks."""
    write_whole(path, text, 0o600)


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Writes a file with these permissions, whatever the umask. It is written under another name and renamed,
    so it is never incomplete and never readable by others than `mode` says. Blocks."""
    partial = path.with_name(path.name + ".part")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)
