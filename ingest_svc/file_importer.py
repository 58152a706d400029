"""Imports complete files: examines each and stores its content as a blob."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from cachetools import FIFOCache

from ingest_svc.examination import ExaminedPhoto, examine, first_change
from ingest_svc.facts import Fact, Photo, RejectedFile, SourceCamera
from ingest_svc.fingerprint import Fingerprint, fingerprint
from ingest_svc.formats.inspection import PhotoLimits
from ingest_svc.rejection import RejectionCause
from ingest_svc.thread_pool import ThreadPool
from mesh.blobs import SpooledFile
from mesh.retry import retry
from mesh.telemetry.spans import span

# Each import has a file in the spool until its content is stored.
MAX_IMPORTS = 8
# How long, and how often, to look for the next picture of a file that is overwritten again and again.
NEXT_SECONDS, LOOK_SECONDS = 1.5, 0.02
# The next picture differs from one before it within its first NEAR_BYTES. If that was not found MAX_FAR
# times, the upper parts of the pictures are alike, and the first third is near enough.
NEAR_BYTES, NEAR_SHARE, MAX_FAR = 2048, 3, 20
MAX_RESTLESS = 1000


class BlobSpool(Protocol):
    """The part of mesh.blobs.Blobs that imports and uploads use."""

    def spooled(self) -> AbstractAsyncContextManager[SpooledFile]: ...


class FileImporter:
    """`readers` bounds how many files are read at once; `checks` only reads their metadata."""

    def __init__(
        self, root: Path, blobs: BlobSpool, limits: PhotoLimits, readers: ThreadPool, checks: ThreadPool
    ) -> None:
        self._root, self._blobs, self._limits = root, blobs, limits
        self._readers, self._checks = readers, checks
        self._free = asyncio.Semaphore(MAX_IMPORTS)
        # How often, in a row, the next change of a restless file was too far from its beginning.
        self._far: FIFOCache[str, int] = FIFOCache(MAX_RESTLESS)

    async def run(self, file: Fingerprint, camera: SourceCamera, restless: bool = False) -> Fact | None:
        """Returns a photo whose blob is durable, or a rejection; None if the file is gone or has changed.

        A `restless` file is overwritten again and again, and had not changed for a moment: it is taken as it
        was then, and never rejected. None if that was not, for certain, a whole picture.

        Retries for as long as a disk or the blobs fail or are full.
        """
        return await retry(lambda: self._import(file, camera, restless), f"importing {file.path}")

    async def _import(self, file: Fingerprint, camera: SourceCamera, restless: bool) -> Fact | None:
        async with self._free:
            async with self._blobs.spooled() as spooled:
                with span("examine file"):
                    result = await self._readers.run(examine, self._root, file, camera, self._limits, spooled)
                if restless and not (
                    isinstance(result, ExaminedPhoto) and await self._was_whole(file, spooled)
                ):
                    return None
                if isinstance(result, ExaminedPhoto):
                    with span("store blob", {"lares.bytes": file.size}):
                        await spooled.store()
            if isinstance(result, RejectionCause):
                return RejectedFile(camera.id, file, result, datetime.now(UTC))
            # If the file has changed since it was copied, its capture time may have changed, too.
            if result is None or not (restless or await self._unchanged(file)):
                return None
            return Photo(
                camera=camera,
                sha256=result.blob.sha256,
                size=result.blob.size,
                header=result.header,
                captured=result.captured,
                ingested_at=datetime.now(UTC),
                file=file,
            )

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

    async def _unchanged(self, file: Fingerprint) -> bool:
        return file.same_state(await self._checks.run(fingerprint, self._root, file.path))
