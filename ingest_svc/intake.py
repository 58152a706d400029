"""Takes one complete file in: examines it and makes its content durable."""

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import structlog

from ingest_svc.examination import Examined, examine
from ingest_svc.fingerprint import Fingerprint, fingerprint
from ingest_svc.inspection import Limits
from ingest_svc.photo import Camera, Fact, Photo, Rejection
from ingest_svc.refusal import Refusal
from ingest_svc.retry import pauses
from ingest_svc.threads import Threads
from mesh.blobs import SpooledFile
from mesh.problems import Problem
from mesh.telemetry.spans import span

log = structlog.get_logger(__name__)


class BlobStore(Protocol):
    """The part of mesh.blobs.Blobs that is needed here."""

    def spooled(self) -> AbstractAsyncContextManager[SpooledFile]: ...


# Each has a file in the spool until it is stored.
MOST_AT_ONCE = 8


class Intake:
    """`reads` bounds how many files are read at once; `looks` is for what only asks for a file's state."""

    def __init__(self, root: Path, blobs: BlobStore, limits: Limits, reads: Threads, looks: Threads) -> None:
        self._root, self._blobs, self._limits, self._reads, self._looks = root, blobs, limits, reads, looks
        self._room = asyncio.Semaphore(MOST_AT_ONCE)

    async def take(self, file: Fingerprint, camera: Camera) -> Fact | None:
        """A photo whose blob is durable, or a rejection; None where the file is gone or has changed. Repeats
        until it knows: disks that fail or are full are waited for."""
        for pause in pauses():
            try:
                async with self._room:
                    return await self._taken(file, camera)
            except (OSError, Problem) as error:
                if isinstance(error, Problem) and not error.retryable:
                    raise
                log.warning("file not taken yet", path=file.path, error=str(error), pause=round(pause, 1))
            await asyncio.sleep(pause)
        raise AssertionError("pauses never end")

    async def _taken(self, file: Fingerprint, camera: Camera) -> Fact | None:
        async with self._blobs.spooled() as spooled:
            with span("examine file"):
                verdict = await self._reads.run(examine, self._root, file, camera, self._limits, spooled)
            if isinstance(verdict, Examined):
                with span("store blob", {"lares.bytes": file.size}):
                    await spooled.store()
        if isinstance(verdict, Refusal):
            return Rejection(camera.id, file, verdict, datetime.now(UTC))
        # Where the file is another by now, its capture time may be, too.
        if verdict is None or not await self._unchanged(file):
            return None
        return Photo(
            camera=camera,
            sha256=verdict.blob.sha256,
            size=verdict.blob.size,
            header=verdict.header,
            captured=verdict.captured,
            ingested_at=datetime.now(UTC),
            file=file,
        )

    async def _unchanged(self, file: Fingerprint) -> bool:
        return file.same_state(await self._looks.run(fingerprint, self._root, file.path))
