"""Finds what nobody announced: at start, after lost events, when a camera may send again."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Protocol

from ingest_svc.admission import Admission
from ingest_svc.capture import EPOCH, instant
from ingest_svc.catalogue import PAGE
from ingest_svc.examination import when_captured
from ingest_svc.fingerprint import Fingerprint, fingerprint
from ingest_svc.photo import Camera
from ingest_svc.refusal import Refusal
from ingest_svc.settling import PATIENCE_SECONDS
from ingest_svc.threads import Threads
from ingest_svc.tree import walk

NANOSECONDS = 1_000_000_000


class Knowledge(Protocol):
    """The part of Catalogue that is needed here."""

    async def unknown(self, files: list[Fingerprint]) -> list[Fingerprint]: ...


@dataclass
class Found:
    """`unknown` is in order of capture, then path; `known` what the store has seen before. `unsettled` are
    still being written, or came after the scan began: the watch sees to their order."""

    unknown: list[Fingerprint] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)


class Scan:
    """`clock` tells the time as the file system stamps it, in nanoseconds; `settle` is in seconds; `known` is
    handed what the store has seen before, page by page; `writing` says who still has a file open."""

    def __init__(
        self,
        root: Path,
        clock: Callable[[], int],
        settle: float,
        admission: Admission,
        catalogue: Knowledge,
        known: Callable[[list[Fingerprint]], Awaitable[None]],
        writing: Callable[[Path], bool | None],
        looks: Threads,
    ) -> None:
        self._root, self._clock, self._settle, self._looks = root, clock, settle, looks
        self._writing = writing
        self._admission, self._catalogue, self._known = admission, catalogue, known

    async def run(self, below: str, skip: Callable[[Fingerprint], bool]) -> Found:
        """Everything in the folder `below` (relative; "" is all), less what `skip` says."""
        found, young = Found(), list[Fingerprint]()
        started = await self._looks.run(self._clock)
        files = walk(self._root, below)
        while page := await self._looks.run(list, islice(files, PAGE)):
            wanted = [file for file in page if not skip(file) and self._admission.of_file(file)]
            found.unsettled += [file.path for file in wanted if file.ctime_ns >= started]
            wanted = [file for file in wanted if file.ctime_ns < started]
            ripe = await self._looks.run(self._ripe, wanted, started)
            young += [file for file in wanted if file not in ripe]
            await self._ask(found, [file for file in wanted if file in ripe])
        if young:
            await asyncio.sleep(self._settle)
            still = await self._looks.run(self._still, young)
            found.unsettled += [file.path for file in young if file not in still]
            for first in range(0, len(young), PAGE):
                await self._ask(found, [f for f in young[first : first + PAGE] if f in still])
        found.unknown = await self.in_capture_order(found.unknown)
        return found

    async def in_capture_order(self, files: Iterable[Fingerprint]) -> list[Fingerprint]:
        """By when they were taken, then by path."""
        remaining, keyed = iter(files), list[tuple[datetime, str, Fingerprint]]()
        while page := list(islice(remaining, PAGE)):
            whose = [(file, self._admission.of_file(file)) for file in page]
            keyed += await self._looks.run(self._keyed, whose)
        return [file for _, _, file in sorted(keyed, key=lambda key: key[:2])]

    async def _ask(self, found: Found, files: list[Fingerprint]) -> None:
        if files:
            unknown = set(await self._catalogue.unknown(files))
            found.unknown += [file for file in files if file in unknown]
            await self._known([file for file in files if file not in unknown])

    def _ripe(self, files: list[Fingerprint], started: int) -> set[Fingerprint]:
        """Those long untouched, or for a while and by nobody who still writes."""
        ages = [(file, (started - file.ctime_ns) / NANOSECONDS) for file in files]
        return {
            file
            for file, age in ages
            if age >= PATIENCE_SECONDS or (age >= self._settle and not self._writing(self._root / file.path))
        }

    def _still(self, files: list[Fingerprint]) -> set[Fingerprint]:
        return {
            file
            for file in files
            if file.same_state(fingerprint(self._root, file.path))
            and not self._writing(self._root / file.path)
        }

    def _keyed(
        self, files: list[tuple[Fingerprint, Camera | Refusal | None]]
    ) -> list[tuple[datetime, str, Fingerprint]]:
        return [
            (
                when_captured(self._root, file, camera)
                if isinstance(camera, Camera) and not file.outside
                else instant(file.mtime_ns) or EPOCH,
                file.path,
                file,
            )
            for file, camera in files
        ]
