"""Prevents files that are being imported, or were announced, from being imported again."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from cachetools import FIFOCache

from ingest_svc.announcing import Announcer
from ingest_svc.facts import Fact, IngestedMedia, RejectedFile, SourceCamera
from ingest_svc.file_importer import FileImporter
from ingest_svc.fingerprint import Fingerprint
from ingest_svc.rejection import RejectionCause
from ingest_svc.watching.completion import Moment

MAX_IN_FLIGHT = 64
MAX_REMEMBERED = 20_000


class DuplicateFilter:
    """`on_change` is called with the path of a file that changed, or vanished, while it was imported,
    `on_done` with that of a file that was announced."""

    def __init__(
        self,
        importer: FileImporter,
        announcer: Announcer,
        *,
        on_change: Callable[[str], None],
        on_done: Callable[[str], None],
    ) -> None:
        self._importer, self._announcer = importer, announcer
        self._on_change, self._on_done = on_change, on_done
        self._free = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._in_flight: dict[str, Fingerprint] = {}
        self._announced: FIFOCache[str, Fingerprint] = FIFOCache(MAX_REMEMBERED)

    @property
    def pending(self) -> int:
        return self._announcer.pending

    def knows(self, file: Fingerprint) -> bool:
        """Whether the file is in flight or announced, in exactly this state."""
        return file.same_state(self._in_flight.get(file.path)) or file.same_state(
            self._announced.get(file.path)
        )

    def forget(self, folder: str) -> None:
        """Lets the files of this folder be announced again."""
        for path in [path for path in self._announced if path.startswith(f"{folder}/")]:
            del self._announced[path]

    async def reserve(self) -> None:
        """Waits until `submit` may be called once."""
        await self._free.acquire()

    def submit(
        self,
        file: Fingerprint,
        owner: SourceCamera | RejectionCause,
        completed_at: float,
        moment: Moment | None = None,
        end_turn: Callable[[], None] | None = None,
    ) -> None:
        """Starts importing or rejecting a file. Its fact is announced after those of the files of its camera
        that were submitted before. `completed_at` is in monotonic seconds. `moment` is given for a restless
        file. `end_turn` is given if the file has waited for its turn, and called once the fact is announced,
        or if there is none."""
        self._in_flight[file.path] = file
        if isinstance(owner, SourceCamera):
            order_key, work = owner.id, self._import(file, owner, moment, end_turn is not None)
        else:
            order_key, work = file.path, _reject(file, owner)

        def finish(fact: Fact | None) -> None:
            if end_turn is not None:
                end_turn()
            self._finish(file, fact)

        self._announcer.submit(order_key, work, started=completed_at, on_announced=finish)

    async def _import(
        self, file: Fingerprint, camera: SourceCamera, moment: Moment | None, backlog: bool
    ) -> Fact | None:
        fact = await self._importer.run(file, camera, moment)
        return replace(fact, backlog=True) if backlog and isinstance(fact, IngestedMedia) else fact

    def _finish(self, file: Fingerprint, fact: Fact | None) -> None:
        self._free.release()
        if self._in_flight.get(file.path) is file:
            del self._in_flight[file.path]
        if fact is None:
            self._on_change(file.path)
        else:
            self._announced[file.path] = fact.file or file
            self._on_done(file.path)


async def _reject(file: Fingerprint, cause: RejectionCause) -> Fact:
    return RejectedFile("", file, cause, datetime.now(UTC))
