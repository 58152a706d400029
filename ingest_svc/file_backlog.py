"""Files that wait in the cameras folder: the backlog for its turns, and live photos a moment for the backlog
of their own camera."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from ingest_svc.fingerprint import Fingerprint
from ingest_svc.live_photos import OLD_SECONDS, LivePhotos
from ingest_svc.turns import Turns
from ingest_svc.waiting_files import MAX_WAITING, HeldPhotos, Source, WaitingFile, WaitingFiles

# So many files are sorted while everything else waits. More than may be live at a time: of others none is.
MANY = 300

# Submits a file; the turns are given if it has waited for one.
Submit = Callable[[WaitingFile, Turns | None], Awaitable[None]]
InOrder = Callable[[Iterable[Fingerprint]], Awaitable[list[Fingerprint]]]


class Backlog:
    """`sort` is its loop. `camera` returns the camera of a folder, `in_order` sorts files by capture time,
    and `wake` ends the pause of the worker."""

    def __init__(
        self,
        turns: Turns,
        *,
        camera: Callable[[str], str | None],
        in_order: InOrder,
        submit: Submit,
        wake: Callable[[], None],
    ) -> None:
        self._turns, self._camera, self._wake = turns, camera, wake
        self._in_order, self._submit = in_order, submit
        self._waiting, self._live_photos, self._held = WaitingFiles(), LivePhotos(), HeldPhotos()
        # By source and path, the files that are still to be sorted. A source whose files are being sorted
        # stays here, so that what arrives meanwhile comes after them.
        self._unsorted: dict[Source, dict[str, WaitingFile]] = {}
        self._unsorted_added = asyncio.Event()
        # How many these are, with those that are being sorted; how many were taken and are not submitted yet.
        self._to_sort = self._taken = 0

    def __len__(self) -> int:
        return self._to_sort + len(self._waiting) + len(self._held) + self._taken

    def pause(self, now: float) -> float | None:
        """Seconds until there is something to submit; None if there is nothing to wait for."""
        pauses = [self._turns.pause(now)] if self._waiting else []
        if (held := self._held.pause(now)) is not None:
            pauses.append(held)
        return min(pauses, default=None)

    async def add(self, file: Fingerprint, complete_at: float) -> None:
        """Submits a live photo that need not wait. Other files wait."""
        source, waiting, now = source_of(file), WaitingFile(file, complete_at), time.monotonic()
        folder, _ = source
        waits = source in self._unsorted or self._waiting.waits(source)
        if not self._live_photos.arrived(source, waits, now):
            self._wait(source, waiting)
        elif self._any_of(folder) or self._held.any_of(folder):
            self._held.add(folder, waiting, now)
        else:
            await self._submit(waiting, None)

    async def add_found(self, files: Sequence[Fingerprint]) -> None:
        """Adds files that a scan has found, in this order. Only new ones can be live."""
        found_at, fresh = time.monotonic(), list[Fingerprint]()
        for file in files:
            source = source_of(file)
            if source[1]:
                self._wait(source, WaitingFile(file, found_at))
            else:
                fresh.append(file)
        await self.submit()
        for file in fresh:
            await self.add(file, found_at)

    def add_many(self, files: Iterable[WaitingFile]) -> None:
        """Adds so many files that none of them is live, and that live photos of other cameras must not wait
        until they are sorted by capture time."""
        now = time.monotonic()
        for waiting in files:
            source = source_of(waiting.file)
            if source not in self._unsorted:
                self._unsorted[source] = {}
                self._live_photos.flooded(source, now)
            self._wait(source, waiting)
        self._unsorted_added.set()

    async def sort(self) -> None:
        """Sorts what `add_many` has added, one source after another, until it is cancelled."""
        while True:
            await self._unsorted_added.wait()
            self._unsorted_added.clear()
            while self._unsorted:
                await self._sort(next(iter(self._unsorted)))
                self._wake()

    async def submit(self) -> None:
        """Submits the files whose turn it is, and the live photos that have waited for such files."""
        if self._waiting:
            await self._turns.refresh(time.monotonic())
        while waiting := self._waiting.take(self._has_turn):
            await self._submit_taken([waiting], self._turns)
        await self._submit_taken(self._held.take(self._any_of, time.monotonic()), None)

    def take_forgotten(self) -> list[str]:
        """Once nothing waits, removes and returns the folders of which there were too many files to remember
        all: they have to be scanned again."""
        return [] if self._unsorted else self._waiting.take_forgotten()

    async def _submit_taken(self, files: Sequence[WaitingFile], turns: Turns | None) -> None:
        self._taken += len(files)
        for waiting in files:
            await self._submit(waiting, turns)
            self._taken -= 1

    async def _sort(self, source: Source) -> None:
        files, self._unsorted[source] = self._unsorted[source], {}
        in_order = await self._in_order(waiting.file for waiting in files.values())
        self._to_sort -= len(files)
        for file in in_order:
            self._waiting.add(source, files[file.path])
        if arrived := self._unsorted.pop(source):
            self._unsorted[source] = arrived  # after those of the other sources

    def _wait(self, source: Source, waiting: WaitingFile) -> None:
        unsorted, path = self._unsorted.get(source), waiting.file.path
        if unsorted is None:
            self._waiting.add(source, waiting)
        elif path in unsorted:
            unsorted[path] = waiting
        elif self._to_sort + len(self._waiting) < MAX_WAITING:
            unsorted[path] = waiting
            self._to_sort += 1
        else:
            self._waiting.forget(source)

    def _any_of(self, folder: str) -> bool:
        unsorted = (folder, False) in self._unsorted or (folder, True) in self._unsorted
        return unsorted or self._waiting.any_of(folder)

    def _has_turn(self, folder: str) -> bool:
        camera_id = self._camera(folder)
        return self._turns.may_import if camera_id is None else self._turns.free(camera_id)


def few_and_many(files: Iterable[Fingerprint]) -> tuple[list[Fingerprint], list[Fingerprint]]:
    """Splits files that arrive at a time: into those of the sources with the fewest, MANY at most, and the
    others."""
    of_each: dict[Source, list[Fingerprint]] = {}
    for file in files:
        of_each.setdefault(source_of(file), []).append(file)
    few, many = list[Fingerprint](), list[Fingerprint]()
    for of_source in sorted(of_each.values(), key=len):
        (few if len(few) + len(of_source) <= MANY else many).extend(of_source)
    return few, many


def source_of(file: Fingerprint) -> Source:
    folder, slash, _ = file.path.partition("/")
    return folder if slash else "", time.time() - file.mtime_ns / 1e9 > OLD_SECONDS
