"""Originals, addressed by their content: `<folder>/ab/abcdef...`, durable before `put` returns."""

import asyncio
import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import unquote

from mesh.durable import sync_folder
from mesh.problems import Conflict, Invalid
from mesh.spool import Spool

FICLONE = 0x40049409  # linux/fs.h: share the extents of another file, where the file system can
THREADS = 4

T = TypeVar("T")


class Blobs:
    """A folder of immutable files. Safe for many processes at once: equal content, equal name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="blobs")
        self._named: set[Path] = set()  # the folders in it whose names are durable

    @cached_property
    def spool(self) -> Spool:
        """Of the same file system. Made when it is asked for: whoever only reads writes nothing."""
        return Spool(self._folder / ".spool")

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def path(self, sha256: str) -> Path:
        """Where this content lies, whether or not it is there yet."""
        return self._folder / sha256[:2] / sha256

    async def put(self, sha256: str, source: Path, content: bytes) -> None:
        """Keeps `content`, which was read from `source` and hashed (reflink where the file system can).
        Raises Conflict CONTENT_CHANGED when `source` holds something else by now, OSError when the disk
        refuses; either leaves no trace."""
        await self._run(self._put, sha256, source, content)

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)

    def _put(self, sha256: str, source: Path, content: bytes) -> None:
        path = self.path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with self.spool.file() as partial, source.open("rb") as original:
                _copy(original, partial, content)
                partial.flush()
                os.fsync(partial.fileno())
                os.rename(partial.name, path)
        # Of what is there already, too: whoever put it there may have been killed before he came to this.
        sync_folder(path.parent)
        if path.parent not in self._named:
            sync_folder(self._folder)
            self._named.add(path.parent)


def open_blobs(url: str, home: Path) -> Blobs:
    """`file:///folder`, or `media/` in the home when the URL is empty. Raises Invalid BAD_SETTING."""
    folder = Path(unquote(url.removeprefix("file://"))) if url else home / "media"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Invalid(f"LARES_BLOBS_URL: cannot make {folder}: {error.strerror}", "BAD_SETTING") from None
    return Blobs(folder)


def _copy(original: BinaryIO, target: BinaryIO, content: bytes) -> None:
    try:
        fcntl.ioctl(target.fileno(), FICLONE, original.fileno())
        copied = target
    except OSError:
        target.write(content)
        copied = original
    # Comparing is a tenth of hashing again.
    if copied.read(len(content) + 1) != content:
        raise Conflict("the content changed while it was read", "CONTENT_CHANGED")
