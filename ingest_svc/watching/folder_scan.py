"""Finds files that are not announced yet: at start, after lost events, and when a camera is enabled."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice
from pathlib import Path

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.examination import capture_time_of_file
from ingest_svc.facts import SourceCamera
from ingest_svc.fingerprint import Fingerprint, fingerprint
from ingest_svc.formats.capture_time import EPOCH, instant
from ingest_svc.known_files import PAGE, KnownFiles
from ingest_svc.rejection import RejectionCause
from ingest_svc.thread_pool import ThreadPool
from ingest_svc.watching.completion import PATIENCE_SECONDS
from ingest_svc.watching.folder_walk import walk
from ingest_svc.watching.ignored_names import IgnoredNames

NANOSECONDS = 1_000_000_000
# So few files are read at a time for their order that other checks hardly wait, even on a slow disk.
SORT_PAGE = 25

Owner = SourceCamera | RejectionCause | None


@dataclass
class ScanResult:
    """`unknown` are the complete files that the store does not know, in no order. `incomplete` are still
    being written or appeared after the scan began."""

    unknown: list[Fingerprint] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)


class FolderScan:
    """`clock` is the current time by the file system's clock, in nanoseconds. `owner` returns the camera of a
    file, the cause of its rejection, or None to skip it. `on_known` receives, page by page, the files that
    the store knows. `open_for_writing` returns whether a process writes to a file. `on_failure` is called,
    from any thread, with each folder that cannot be listed, or is not there."""

    def __init__(
        self,
        root: CamerasRoot,
        *,
        clock: Callable[[], int],
        settle_seconds: float,
        owner: Callable[[Fingerprint], Owner],
        known_files: KnownFiles,
        on_known: Callable[[list[Fingerprint]], Awaitable[None]],
        open_for_writing: Callable[[Path], bool | None],
        ignored: IgnoredNames,
        on_failure: Callable[[str], None],
        checks: ThreadPool,
    ) -> None:
        self._root, self._clock, self._settle_seconds, self._checks = root, clock, settle_seconds, checks
        self._open_for_writing, self._owner = open_for_writing, owner
        self._known_files, self._on_known = known_files, on_known
        self._ignored, self._on_failure = ignored, on_failure

    async def run(self, folders: Iterable[str], skip: Callable[[Fingerprint], bool]) -> ScanResult:
        """Scans these folders (relative paths, of which none is below another; "" scans everything), except
        the files for which `skip` returns true. Raises OSError if the cameras folder itself cannot be
        listed."""
        result, recent = ScanResult(), list[Fingerprint]()
        started = await self._checks.run(self._clock)
        files = chain.from_iterable(
            walk(self._root, folder, self._ignored, self._on_failure) for folder in folders
        )
        while page := await self._checks.run(list, islice(files, PAGE)):
            wanted = [file for file in page if not skip(file) and self._owner(file)]
            result.incomplete += [file.path for file in wanted if file.ctime_ns >= started]
            wanted = [file for file in wanted if file.ctime_ns < started]
            complete = await self._checks.run(self._complete, wanted, started)
            recent += [file for file in wanted if file not in complete]
            await self._add_unknown(result, [file for file in wanted if file in complete])
        if recent:
            await asyncio.sleep(self._settle_seconds)
            unchanged = await self._checks.run(self._unchanged, recent)
            result.incomplete += [file.path for file in recent if file not in unchanged]
            for first in range(0, len(recent), PAGE):
                await self._add_unknown(result, [f for f in recent[first : first + PAGE] if f in unchanged])
        return result

    async def in_capture_order(self, files: Iterable[Fingerprint]) -> list[Fingerprint]:
        """Sorts by capture time, then by path."""
        remaining, keyed = iter(files), list[tuple[datetime, str, Fingerprint]]()
        while page := list(islice(remaining, SORT_PAGE)):
            owned = [(file, self._owner(file)) for file in page]
            keyed += await self._checks.run(self._sort_keys, owned)
        return [file for _, _, file in sorted(keyed, key=lambda key: key[:2])]

    async def _add_unknown(self, result: ScanResult, files: list[Fingerprint]) -> None:
        if files:
            unknown = set(await self._known_files.unknown(files))
            result.unknown += [file for file in files if file in unknown]
            await self._on_known([file for file in files if file not in unknown])

    def _complete(self, files: list[Fingerprint], started: int) -> set[Fingerprint]:
        """The files that did not change for PATIENCE_SECONDS, or did not change for `settle_seconds` and are
        not being written. The latter is not known of a linked folder, whose file system may have another
        clock, and whose files another computer may write."""
        ages = [(file, (started - file.ctime_ns) / NANOSECONDS) for file in files]
        return {
            file
            for file, age in ages
            if age >= PATIENCE_SECONDS
            or (
                age >= self._settle_seconds
                and not self._root.is_linked(file.path)
                and not self._open_for_writing(self._root / file.path)
            )
        }

    def _unchanged(self, files: list[Fingerprint]) -> set[Fingerprint]:
        return {
            file
            for file in files
            if file.same_state(fingerprint(self._root, file.path))
            and not self._open_for_writing(self._root / file.path)
        }

    def _sort_keys(self, files: list[tuple[Fingerprint, Owner]]) -> list[tuple[datetime, str, Fingerprint]]:
        return [
            (
                capture_time_of_file(self._root, file, owner)
                if isinstance(owner, SourceCamera) and not file.outside
                else instant(file.mtime_ns) or EPOCH,
                file.path,
                file,
            )
            for file, owner in files
        ]
