"""Imports complete files: examines each and stores its content as a blob."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from cachetools import FIFOCache

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.clip_probing import ClipProbe, clip_times
from ingest_svc.examination import (
    CompleteClip,
    Examined,
    ExaminedMedia,
    OpenEnded,
    capture_time_of,
    examine,
)
from ingest_svc.facts import Fact, IngestedMedia, RejectedFile, SourceCamera
from ingest_svc.fingerprint import Fingerprint, fingerprints
from ingest_svc.formats.inspection import MediaLimits
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
# A clip whose container does not say whether more is to come is taken once it has not changed for this long.
OPEN_ENDED_SECONDS = 5.0
UNFINISHED = (RejectReason.TRUNCATED, RejectReason.ZERO_BYTE)
MAX_UNFINISHED = 10_000

# Files are read in groups of at most MAX_GROUP, with at most GROUP_BYTES. GROUPS are read at once, which
# leaves a reader for uploads. Larger files, which are clips, are read one after another, and no other file
# waits for them.
MAX_GROUP, GROUP_BYTES, GROUPS = 16, 8 * 2**20, 2
# Each import has a file in the spool until its content is stored; at most MAX_LARGE of them are larger than
# GROUP_BYTES.
MAX_IMPORTS, MAX_LARGE = GROUPS * MAX_GROUP, 4


class BlobSpool(Protocol):
    """The part of mesh.blobs.Blobs that imports and uploads use."""

    def spooled(self) -> AbstractAsyncContextManager[SpooledFile]: ...


class CopiedFile(NamedTuple):
    """`unchanged` is for how long the file has certainly not changed, in seconds."""

    file: Fingerprint
    camera: SourceCamera
    spooled: SpooledFile
    unchanged: float
    photos_only: bool = False


class UnfinishedFile(NamedTuple):
    """A file of which more may come: in this state `since`, and to be looked at again at the time `until`, in
    monotonic seconds."""

    file: Fingerprint
    since: float
    until: float


class FileImporter:
    """`readers` bounds how many files are read at once, `large_reader` is for large ones; `checks` only reads
    their metadata."""

    def __init__(
        self,
        root: CamerasRoot,
        blobs: BlobSpool,
        limits: MediaLimits,
        storage: StorageState,
        readers: ThreadPool,
        large_reader: ThreadPool,
        checks: ThreadPool,
        restless: RestlessFiles,
        clips: ClipProbe,
    ) -> None:
        self.storage = storage
        self._clips = clips
        self._root, self._blobs, self._limits = root, blobs, limits
        self._free, self._free_for_large = asyncio.Semaphore(MAX_IMPORTS), asyncio.Semaphore(MAX_LARGE)
        self._unfinished: FIFOCache[str, UnfinishedFile] = FIFOCache(MAX_UNFINISHED)
        self._examinations = GroupedWork(
            one_by_one(self._examine),
            readers.executor,
            most=MAX_GROUP,
            at_once=GROUPS,
            size=lambda copied: copied.file.size,
            most_size=GROUP_BYTES,
        )
        self._large_examinations = GroupedWork(one_by_one(self._examine), large_reader.executor, most=1)
        self._looks = GroupedWork(self._look, checks.executor, most=MAX_IMPORTS)
        self._restless = restless

    async def run(self, file: Fingerprint, camera: SourceCamera, moment: Moment | None = None) -> Fact | None:
        """Returns a media whose blob is durable, or a rejection; None if the file is gone or has changed, or
        may be unfinished.

        A restless file, which has a `moment`, is taken as it is then, and never rejected. None if that is
        not, for certain, a whole picture: never a clip.

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
        examinations = self._large_examinations if is_large else self._examinations
        async with self._free_for_large if is_large else nullcontext(), self._free:
            async with self._blobs.spooled() as spooled:
                with span("examine file"), self.storage.spooling():
                    copied = CopiedFile(file, camera, spooled, self._unchanged_for(file))
                    result = await examinations.do(copied)
                if isinstance(result, CompleteClip):
                    result = await self._open_clip(copied, result)
                if isinstance(result, ExaminedMedia):
                    await self._store(file, spooled)
            if self._may_be_unfinished(file, result):
                return None
            if isinstance(result, RejectionCause):
                return RejectedFile(camera.id, file, result, datetime.now(UTC))
            # If the file has changed since it was copied, its capture time may have changed, too.
            if not isinstance(result, ExaminedMedia) or not file.same_state(await self._looks.do(file)):
                return None
            return _media(file, camera, result, spooled)

    async def _open_clip(self, copied: CopiedFile, clip: CompleteClip) -> ExaminedMedia | RejectionCause:
        header = await self._clips.inspect(copied.spooled.path, clip.container)
        if isinstance(header, RejectionCause):
            return header
        captured = capture_time_of(copied.file, copied.camera, clip=clip_times(header))
        return ExaminedMedia(clip.blob, header, captured)

    async def _import_restless(self, path: str, camera: SourceCamera, moment: Moment) -> Fact | None:
        async with self._restless.turn(moment) as threads, self._free:
            async with self._blobs.spooled() as spooled:
                rest = await threads.run(self._restless.rest, path, moment)
                if rest is None:
                    return None
                with span("examine file"), self.storage.spooling():
                    copied = CopiedFile(rest.file, camera, spooled, 0.0, photos_only=True)
                    result = await threads.run(self._examine, copied)
                if not (
                    isinstance(result, ExaminedMedia)
                    and await self._restless.was_whole(rest, spooled, threads)
                ):
                    return None
                await self._store(rest.file, spooled)
            return _media(rest.file, camera, result, spooled)

    async def _store(self, file: Fingerprint, spooled: SpooledFile) -> None:
        with span("store blob", {"lares.bytes": file.size}), self.storage.attempt():
            await spooled.store()

    def unfinished_for(self, path: str) -> float | None:
        """Seconds until it is certain that nothing more is to come of a file; None if `run` has not found it
        unfinished."""
        found = self._unfinished.get(path)
        return None if found is None else max(0.0, found.until - time.monotonic())

    def _unchanged_for(self, file: Fingerprint) -> float:
        """Seconds for which a file has certainly not changed. Compares its time with the clock, and asks when
        it was found in this state, in case that either is wrong."""
        known = self._unfinished.get(file.path)
        watched = time.monotonic() - known.since if known and file.same_state(known.file) else 0.0
        return max(time.time() - file.mtime_ns / 1e9, watched)

    def _may_be_unfinished(self, file: Fingerprint, result: Examined) -> bool:
        """Remembers the file if so."""
        unchanged, now = self._unchanged_for(file), time.monotonic()
        known = self._unfinished.pop(file.path, None)
        if isinstance(result, OpenEnded):
            enough = OPEN_ENDED_SECONDS
        elif isinstance(result, RejectionCause) and result.reason in UNFINISHED:
            enough = UNFINISHED_SECONDS
        else:
            return False
        if unchanged >= enough and not isinstance(result, OpenEnded):
            return False
        since = known.since if known and file.same_state(known.file) else now
        self._unfinished[file.path] = UnfinishedFile(file, since, now + max(0.0, enough - unchanged))
        return True

    def _examine(self, copied: CopiedFile) -> Examined:
        return examine(
            self._root,
            copied.file,
            copied.camera,
            self._limits,
            copied.spooled,
            photos_only=copied.photos_only,
            at_rest=copied.unchanged >= OPEN_ENDED_SECONDS,
        )

    def _look(self, files: Sequence[Fingerprint]) -> Sequence[Fingerprint | None]:
        found = fingerprints(self._root, [file.path for file in files])
        return [found.get(file.path) for file in files]


def _media(
    file: Fingerprint, camera: SourceCamera, examined: ExaminedMedia, spooled: SpooledFile
) -> IngestedMedia:
    return IngestedMedia(
        camera=camera,
        sha256=examined.blob.sha256,
        size=examined.blob.size,
        header=examined.header,
        captured=examined.captured,
        ingested_at=datetime.now(UTC),
        file=file,
        may_be_known=spooled.may_be_known,
    )
