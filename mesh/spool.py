"""Files that are being written. What a killed process left of them goes when the folder is opened again."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4


class Spool:
    """A folder for many processes at once: whoever writes a file holds its lock, which the kernel frees when
    he dies. Where the file system has no locks, nothing is cleared."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():
            with suppress(OSError), left.open("rb+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()

    @contextmanager
    def file(self) -> Iterator[BinaryIO]:
        """A new file, to write and to read; `name` is its path. It goes with the block, unless it was
        renamed. Raises OSError."""
        file = self._locked()
        try:
            with file:
                yield file
        finally:
            Path(file.name).unlink(missing_ok=True)

    def _locked(self) -> BinaryIO:
        while True:
            file = (self._folder / uuid4().hex).open("xb+")
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                return file
            file.close()  # taken for left behind, before it had its lock
