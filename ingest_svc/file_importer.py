"""Imports complete files: examines each and stores its content as a blob."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from cachetools import FIFOCache

from ingest_svc.examination import ExaminedPhoto, examine, first_change
from ingest_svc.facts import Fact, Photo, RejectedFile, SourceCamera
from ingest_svc.fingerprint import Fingerprint, fingerprints
from ingest_svc.formats.inspection import PhotoLimits
from ingest_svc.rejection import RejectionCause, RejectReason
from ingest_svc.storage_state import StorageState
from ingest_svc.thread_pool import ThreadPool
from mesh.blobs import SpooledFile
from mesh.grouped_work import GroupedWork, one_by_one
from mesh.retry import retry
from mesh.telemetry.spans import span

# A file that is empty or ends in the middle may be one of which more is to come, until it has not changed for
# this long.
UNFINISHED_SECONDS = 30.0
UNFINISHED = (RejectReason.TRUNCATED, RejectReason.ZERO_BYTE)
MAX_UNFINISHED = 10_000

# Files are read in groups of at most MAX_GROUP, with at most GROUP_BYTES so that a large one has a group of
# its own. GROUPS are read at once, which leaves a reader for uploads.
MAX_GROUP, GROUP_BYTES, GROUPS = 16, 8 * 2**20, 2
# Each import has a file in the spool until its content is stored; at most MAX_LARGE of them are larger than
# GROUP_BYTES.
MAX_IMPORTS, MAX_LARGE = GROUPS * MAX_GROUP, 4
# How long, and how often, to look for the next picture of a file that is overwritten again and again.
NEXT_SECONDS, LOOK_SECONDS = 1.5, 0.02
# The next picture differs from one before it within its first NEAR_BYTES. If that was not found MAX_FAR
# times, the upper parts of the pictures are alike, and the first third is near enough.
NEAR_BYTES, NEAR_SHARE, MAX_FAR = 2048, 3, 20
MAX_RESTLESS = 1000


class BlobSpool(Protocol):
    """The part of mesh.blobs.Blobs that imports and uploads use."""

    def spooled(self) -> AbstractAsyncContextManager[SpooledFile]: ...


class CopiedFile(NamedTuple):
    file: Fingerprint
    camera: SourceCamera
    spooled: SpooledFile


class FileImporter:
    """`readers` bounds how many files are read at once; `checks` only reads their metadata."""

    def __init__(
        self,
        root: Path,
        blobs: BlobSpool,
        limits: PhotoLimits,
        storage: StorageState,
        readers: ThreadPool,
        checks: ThreadPool,
    ) -> None:
        self.storage = storage
        self._root, self._blobs, self._limits = root, blobs, limits
        self._readers, self._checks = readers, checks
        self._free, self._free_for_large = asyncio.Semaphore(MAX_IMPORTS), asyncio.Semaphore(MAX_LARGE)
        # The state in which each unfinished file was found, and since when (in monotonic seconds).
        self._unfinished: FIFOCache[str, tuple[Fingerprint, float]] = FIFOCache(MAX_UNFINISHED)
        self._examinations = GroupedWork(
            one_by_one(self._examine),
            readers.executor,
            most=MAX_GROUP,
            at_once=GROUPS,
            size=lambda copied: copied.file.size,
            most_size=GROUP_BYTES,
        )
        self._looks = GroupedWork(self._look, checks.executor, most=MAX_IMPORTS)
        # How often, in a row, the next change of a restless file was too far from its beginning.
        self._far: FIFOCache[str, int] = FIFOCache(MAX_RESTLESS)

    async def run(self, file: Fingerprint, camera: SourceCamera, restless: bool = False) -> Fact | None:
        """Returns a photo whose blob is durable, or a rejection; None if the file is gone or has changed, or
        may be unfinished.

        A `restless` file is overwritten again and again, and had not changed for a moment: it is taken as it
        was then, and never rejected. None if that was not, for certain, a whole picture.

        Retries for as long as a disk or the blobs fail or are full.
        """
        return await retry(lambda: self._import(file, camera, restless), f"importing {file.path}")

    async def _import(self, file: Fingerprint, camera: SourceCamera, restless: bool) -> Fact | None:
        is_large = file.size > GROUP_BYTES
        async with self._free_for_large if is_large else nullcontext(), self._free:
            async with self._blobs.spooled() as spooled:
                with span("examine file"), self.storage.spooling():
                    result = await self._examinations.do(CopiedFile(file, camera, spooled))
                if restless and not (
                    isinstance(result, ExaminedPhoto) and await self._was_whole(file, spooled)
                ):
                    return None
                if isinstance(result, ExaminedPhoto):
                    with span("store blob", {"lares.bytes": file.size}), self.storage.attempt():
                        await spooled.store()
            if self._may_be_unfinished(file, result):
                return None
            if isinstance(result, RejectionCause):
                return RejectedFile(camera.id, file, result, datetime.now(UTC))
            # If the file has changed since it was copied, its capture time may have changed, too.
            if result is None or not (restless or file.same_state(await self._looks.do(file))):
                return None
            return Photo(
                camera=camera,
                sha256=result.blob.sha256,
                size=result.blob.size,
                header=result.header,
                captured=result.captured,
                ingested_at=datetime.now(UTC),
                file=file,
                may_be_known=spooled.may_be_known,
            )

    def unfinished_for(self, path: str) -> float | None:
        """Seconds until it is certain that nothing more is to come of a file; None if `run` has not found it
        unfinished."""
        found = self._unfinished.get(path)
        return None if found is None else max(0.0, found[1] + UNFINISHED_SECONDS - time.monotonic())

    def _may_be_unfinished(self, file: Fingerprint, result: object) -> bool:
        """Compares the file's time with the clock, and remembers the file in case that either is wrong."""
        known, now = self._unfinished.pop(file.path, None), time.monotonic()
        if not isinstance(result, RejectionCause) or result.reason not in UNFINISHED:
            return False
        since = known[1] if known and file.same_state(known[0]) else now
        if max(time.time() - file.mtime_ns / 1e9, now - since) >= UNFINISHED_SECONDS:
            return False
        self._unfinished[file.path] = (file, since)
        return True

    async def _was_whole(self, file: Fingerprint, copy: SpooledFile) -> bool:
        """Whether the copy is not a picture of which only the first part is new: then the next change would
        continue it instead of beginning another one. Waits for that change."""
        deadline = time.monotonic() + NEXT_SECONDS
        while time.monotonic() < deadline:
            changed = await self._readers.run(first_change, self._root, file, copy)
            if changed is not None:
                return self._is_near(file.path, changed, copy.blob.size)
            await asyncio.sleep(LOOK_SECONDS)
        return False

    def _is_near(self, path: str, changed: int, size: int) -> bool:
        far, share = self._far.pop(path, 0), size // NEAR_SHARE
        if changed < (min(NEAR_BYTES, share) if far < MAX_FAR else share):
            return True
        self._far[path] = far + 1
        return False

    def _examine(self, copied: CopiedFile) -> ExaminedPhoto | RejectionCause | None:
        return examine(self._root, copied.file, copied.camera, self._limits, copied.spooled)

    def _look(self, files: Sequence[Fingerprint]) -> Sequence[Fingerprint | None]:
        found = fingerprints(self._root, [file.path for file in files])
        return [found.get(file.path) for file in files]
