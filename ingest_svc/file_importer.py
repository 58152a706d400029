"""Imports complete files: examines each and stores its content as a blob."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from cachetools import FIFOCache

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.examination import ExaminedPhoto, examine
from ingest_svc.facts import Fact, Photo, RejectedFile, SourceCamera
from ingest_svc.fingerprint import Fingerprint, fingerprints
from ingest_svc.formats.inspection import PhotoLimits
from ingest_svc.rejection import RejectionCause, RejectReason
from ingest_svc.restless_files import RestlessFiles
from ingest_svc.storage_state import StorageState
from ingest_svc.thread_pool import ThreadPool
from ingest_svc.watching.completion import Moment
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
        root: CamerasRoot,
        blobs: BlobSpool,
        limits: PhotoLimits,
        storage: StorageState,
        readers: ThreadPool,
        checks: ThreadPool,
        restless: RestlessFiles,
    ) -> None:
        self.storage = storage
        self._root, self._blobs, self._limits = root, blobs, limits
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
        self._restless = restless

    async def run(self, file: Fingerprint, camera: SourceCamera, moment: Moment | None = None) -> Fact | None:
        """Returns a photo whose blob is durable, or a rejection; None if the file is gone or has changed, or
        may be unfinished.

        A restless file, which has a `moment`, is taken as it is then, and never rejected. None if that is
        not, for certain, a whole picture.

        Retries for as long as a disk or the blobs fail or are full.
        """
        return await retry(
            lambda: (
                self._import(file, camera)
                if moment is None
                else self._import_restless(file.path, camera, moment)
            ),
            f"importing {file.path}",
        )

    async def _import(self, file: Fingerprint, camera: SourceCamera) -> Fact | None:
        is_large = file.size > GROUP_BYTES
        async with self._free_for_large if is_large else nullcontext(), self._free:
            async with self._blobs.spooled() as spooled:
                with span("examine file"), self.storage.spooling():
                    result = await self._examinations.do(CopiedFile(file, camera, spooled))
                if isinstance(result, ExaminedPhoto):
                    await self._store(file, spooled)
            if self._may_be_unfinished(file, result):
                return None
            if isinstance(result, RejectionCause):
                return RejectedFile(camera.id, file, result, datetime.now(UTC))
            # If the file has changed since it was copied, its capture time may have changed, too.
            if result is None or not file.same_state(await self._looks.do(file)):
                return None
            return _photo(file, camera, result, spooled)

    async def _import_restless(self, path: str, camera: SourceCamera, moment: Moment) -> Fact | None:
        async with self._restless.turn(moment) as threads, self._free:
            async with self._blobs.spooled() as spooled:
                rest = await threads.run(self._restless.rest, path, moment)
                if rest is None:
                    return None
                with span("examine file"), self.storage.spooling():
                    copied = CopiedFile(rest.file, camera, spooled)
                    result = await threads.run(self._examine, copied)
                if not (
                    isinstance(result, ExaminedPhoto)
                    and await self._restless.was_whole(rest, spooled, threads)
                ):
                    return None
                await self._store(rest.file, spooled)
            return _photo(rest.file, camera, result, spooled)

    async def _store(self, file: Fingerprint, spooled: SpooledFile) -> None:
        with span("store blob", {"lares.bytes": file.size}), self.storage.attempt():
            await spooled.store()

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

    def _examine(self, copied: CopiedFile) -> ExaminedPhoto | RejectionCause | None:
        return examine(self._root, copied.file, copied.camera, self._limits, copied.spooled)

    def _look(self, files: Sequence[Fingerprint]) -> Sequence[Fingerprint | None]:
        found = fingerprints(self._root, [file.path for file in files])
        return [found.get(file.path) for file in files]


def _photo(file: Fingerprint, camera: SourceCamera, examined: ExaminedPhoto, spooled: SpooledFile) -> Photo:
    return Photo(
        camera=camera,
        sha256=examined.blob.sha256,
        size=examined.blob.size,
        header=examined.header,
        captured=examined.captured,
        ingested_at=datetime.now(UTC),
        file=file,
        may_be_known=spooled.may_be_known,
    )
