"""Parts of contents that are still arriving, kept among the blobs, so that any process can go on.

Somebody else knows which parts a content has (the store, of uploads). Here they only have names: a folder for
each content, and a name in it. Nothing is ever written twice under one name.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mesh.blobs.spool import SpooledFile, read_at
from mesh.durable_files import sync_folder
from mesh.problems import NotFound, Unavailable

# The most that one part should have, since a part is in memory as a whole while it is sent to S3.
PART_BYTES = 4 * 2**20
READ_BYTES = 2**20
FOLDER = ".parts"


class StoredPart(NamedTuple):
    name: str
    size: int


class Parts(ABC):
    """All methods raise Unavailable while the storage fails; `put` raises OSError, too, if the local disk
    fails."""

    @abstractmethod
    async def put(self, folder: str, name: str, spooled: SpooledFile) -> StoredPart:
        """Stores what is in the spooled file, which is of no use afterwards. Returns when it is durable."""

    @abstractmethod
    def read(self, folder: str, part: StoredPart) -> AsyncGenerator[bytes, None]:
        """Yields the content of a part in pieces of at most 1 MiB. Raises NotFound PART_NOT_FOUND if there is
        no such part, or one of another size."""

    @abstractmethod
    def folders(self) -> AsyncIterator[str]:
        """Yields the folders that have parts, in no particular order."""

    @abstractmethod
    async def remove(self, folder: str) -> None:
        """Removes all parts in a folder, which may not exist."""


class Run(Protocol):
    """Runs a function on a thread."""

    async def __call__(self, work: Callable[..., Any], /, *args: Any) -> Any: ...


class FileParts(Parts):
    """In a folder beside the blobs, so that a part is renamed, and not copied."""

    def __init__(self, folder: Path, run: Run) -> None:
        self._folder, self._run = folder, run

    async def put(self, folder: str, name: str, spooled: SpooledFile) -> StoredPart:
        return StoredPart(name, await self._run(self._put, self._folder / folder, name, spooled))

    async def read(self, folder: str, part: StoredPart) -> AsyncGenerator[bytes, None]:
        with _reading():
            file = await self._run((self._folder / folder / part.name).open, "rb", 0)
        with file:
            if os.fstat(file.fileno()).st_size != part.size:
                raise part_not_found()
            for start in range(0, part.size, READ_BYTES):
                with _reading():
                    yield await self._run(read_at, file.fileno(), start, READ_BYTES)

    async def folders(self) -> AsyncIterator[str]:
        with _reading():
            for name in await self._run(_names, self._folder):
                yield name

    async def remove(self, folder: str) -> None:
        with _reading():
            await self._run(_remove, self._folder / folder)

    def _put(self, folder: Path, name: str, spooled: SpooledFile) -> int:
        spooled.begin_sync()
        spooled.sync()
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(self._folder)
        spooled.rename(folder / name)
        sync_folder(folder)
        return spooled.size


def part_not_found() -> NotFound:
    return NotFound("a part of this content is gone", "PART_NOT_FOUND")


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise part_not_found() from None
    except OSError as error:
        raise Unavailable(f"parts cannot be read: {error.strerror}", "BLOBS_UNAVAILABLE") from None


def _names(folder: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return os.listdir(folder)
    return []


def _remove(folder: Path) -> None:
    for name in _names(folder):
        with suppress(FileNotFoundError):
            os.unlink(folder / name)
    with suppress(OSError):  # gone already, or somebody has put a part: it is removed later
        folder.rmdir()
