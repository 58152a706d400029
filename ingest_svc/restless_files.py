"""Takes pictures from files that are overwritten again and again, faster than they settle.

Such a file is copied at a moment when it rests. The copy may still be a picture of which only the first part
is new. That shows at the next change: it continues this picture, or it begins another one, at the place where
pictures begin to differ.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cachetools import FIFOCache

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.examination import common_length, first_change
from ingest_svc.fingerprint import Fingerprint, fingerprint
from ingest_svc.thread_pool import ThreadPool
from ingest_svc.watching.completion import QUIET_SHARE, Moment, state_of
from mesh.blobs import SpooledFile

# A file is fast if none of its pauses is longer: then the moment may have passed when somebody looks.
FAST_PAUSE_SECONDS = 0.1
# How often a fast file is looked at, for how long to learn its pauses, and for how long at most.
SAMPLE_SECONDS, LEARN_SECONDS, WATCH_SECONDS = 0.002, 0.2, 0.5
# Two changes that are less apart may have the same mtime, because the kernel's clock is coarse.
MIN_QUIET_SECONDS = 0.012
# How long to wait for the next change, and how often to look, for a fast file and others.
FAST_NEXT_SECONDS, NEXT_SECONDS, LOOK_SECONDS = 0.2, 1.5, 0.02
# Two pictures differ within the first NEAR_BYTES after what all of them have in common: nothing, or a header,
# or a part of the sky. That is known after MIN_COPIES, and at most for the first COMMON_BYTES. It is found
# out again after MAX_COPIES, because a camera's header may change.
NEAR_BYTES, MIN_COPIES, MAX_COPIES, COMMON_BYTES = 2048, 4, 32, 256 * 1024
MAX_RESTLESS = 64
# How many fast files are watched at once.
WATCHING_THREADS = 2


@dataclass
class Rest:
    """The state in which a file rested. `quiet` is half its longest pause, which lies between two pictures:
    looks that are less apart miss no picture. `seen_at` is when it was last found in this state. Both are in
    monotonic seconds."""

    file: Fingerprint
    quiet: float
    seen_at: float


class RestlessFiles:
    """`watchers` has WATCHING_THREADS threads."""

    def __init__(self, root: CamerasRoot, readers: ThreadPool, watchers: ThreadPool) -> None:
        self._root, self._readers, self._watchers = root, readers, watchers
        self._free = asyncio.Semaphore(WATCHING_THREADS)
        # With what all copies of a file begin, and how many there were.
        self._common: FIFOCache[str, tuple[bytes, int]] = FIFOCache(MAX_RESTLESS)

    @asynccontextmanager
    async def turn(self, moment: Moment) -> AsyncIterator[ThreadPool]:
        """Waits for its turn, and gives the threads on which to read the file. Those for fast files are
        never busy then, or the moment would pass, and no other file waits while these are watched."""
        if moment.pause > FAST_PAUSE_SECONDS:
            yield self._readers
        else:
            async with self._free:
                yield self._watchers

    def rest(self, path: str, moment: Moment) -> Rest | None:
        """Waits for a fast file to rest; others rest as long as the moment lasts. Returns None if it does
        not. Blocks."""
        began = now = changed_at = seen_at = time.monotonic()
        found, longest = fingerprint(self._root, path), moment.pause
        if moment.pause > FAST_PAUSE_SECONDS:
            lasts = found is not None and state_of(found) == moment.state
            return Rest(found, QUIET_SHARE * moment.pause, began) if found and lasts else None
        while now - began < WATCH_SECONDS:
            time.sleep(SAMPLE_SECONDS)
            before, found, now = found, fingerprint(self._root, path), time.monotonic()
            if found is None or not found.same_state(before):
                longest, changed_at = max(longest, seen_at - changed_at), now
            quiet = max(MIN_QUIET_SECONDS, QUIET_SHARE * longest)
            if found and now - began >= LEARN_SECONDS and now - changed_at >= quiet:
                return Rest(found, quiet, now)
            seen_at = now
        return None

    async def was_whole(self, rest: Rest, copy: SpooledFile, threads: ThreadPool) -> bool:
        """Whether the copy, made when the file rested, is a whole picture for certain. Waits for the next
        change."""
        await threads.run(self._note, rest.file.path, copy)
        if rest.quiet <= QUIET_SHARE * FAST_PAUSE_SECONDS:
            return await threads.run(self._wait_for_change, rest, copy)
        deadline = time.monotonic() + NEXT_SECONDS
        while time.monotonic() < deadline:
            if (whole := await threads.run(self._look, rest, copy)) is not None:
                return whole
            await asyncio.sleep(LOOK_SECONDS)
        return await threads.run(self._is_like_all_others, rest, copy)

    def _note(self, path: str, copy: SpooledFile) -> None:
        begins = copy.read(0, COMMON_BYTES)
        common, copies = self._common.pop(path, (begins, 0))
        if copies == MAX_COPIES:
            common, copies = begins, 0
        self._common[path] = common[: common_length(common, begins)], copies + 1

    def _wait_for_change(self, rest: Rest, copy: SpooledFile) -> bool:
        deadline = time.monotonic() + FAST_NEXT_SECONDS
        while (whole := self._look(rest, copy)) is None and time.monotonic() < deadline:
            time.sleep(SAMPLE_SECONDS)
        return self._is_like_all_others(rest, copy) if whole is None else whole

    def _look(self, rest: Rest, copy: SpooledFile) -> bool | None:
        """None if the file has not changed since it rested."""
        began = time.monotonic()
        changed = first_change(self._root, rest.file, copy)
        if changed is None:
            rest.seen_at = began
            return None
        if time.monotonic() - rest.seen_at > rest.quiet:
            return False  # it may have continued, and another picture may have begun
        common, copies = self._common.get(rest.file.path, (b"", 0))
        return changed < NEAR_BYTES + (len(common) if copies >= MIN_COPIES else 0)

    def _is_like_all_others(self, rest: Rest, copy: SpooledFile) -> bool:
        """Whether the file is overwritten, but with the same picture again and again."""
        common, copies = self._common.get(rest.file.path, (b"", 0))
        is_overwritten = not rest.file.same_state(fingerprint(self._root, rest.file.path))
        return is_overwritten and copies >= MIN_COPIES and len(common) == copy.blob.size
