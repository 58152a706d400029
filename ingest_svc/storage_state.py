"""Whether photos can be stored now: a full disk must be told, although every photo waits and none is lost."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from mesh.blobs.spool import SpoolFailed
from mesh.problems import Unavailable

# A failure that was not repeated within this time is not a state: whoever still has a photo tries more often.
LASTS_SECONDS = 30.0


class StorageState:
    def __init__(self) -> None:
        self._problem, self._failed_at = "", 0.0

    @property
    def problem(self) -> str:
        """Why photos cannot be stored; empty if they can."""
        return self._problem if time.monotonic() - self._failed_at < LASTS_SECONDS else ""

    @contextmanager
    def spooling(self) -> Iterator[None]:
        """A block in which a photo is written to the spool."""
        try:
            yield
        except SpoolFailed as error:
            self.failed(error.strerror)
            raise

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """A block in which a photo is stored."""
        try:
            yield
        except (OSError, Unavailable) as error:
            self.failed(error.message if isinstance(error, Unavailable) else error.strerror)
            raise
        self._problem = ""

    def failed(self, why: str | None) -> None:
        self._problem, self._failed_at = (
            f"photos cannot be stored: {why or 'the disk fails'}",
            time.monotonic(),
        )

    async def check(self) -> None:
        """Raises Unavailable while photos cannot be stored."""
        if problem := self.problem:
            raise Unavailable(problem, "STORAGE_FAILED")
