"""Removes the file of a media once the media is announced, if LARES_INGEST_ORIGINALS is `take`."""

import os
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import structlog

from ingest_svc.admission import Admission
from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.examination import CompleteClip, ExaminedMedia, examine
from ingest_svc.facts import SourceCamera
from ingest_svc.fingerprint import (
    Fingerprint,
    fingerprint,
    fingerprint_in_real_folder,
    open_real_folder,
)
from ingest_svc.formats.inspection import MediaLimits
from ingest_svc.thread_pool import ThreadPool
from ingest_svc.watching.open_files import open_for_writing
from mesh.blobs import Blob
from mesh.problems import NotFound
from mesh.retry import retry

# How a file is named while it is removed: a name that no camera uses and that the watcher ignores.
SET_ASIDE_PREFIX = ".lares-taken-"

log = structlog.get_logger(__name__)


class BlobSizes(Protocol):
    """The part of mesh.blobs.Blobs that this module uses."""

    async def size(self, sha256: str) -> int: ...


class Originals:
    """If `take` is false, only `recover` does anything."""

    def __init__(
        self,
        root: CamerasRoot,
        take: bool,
        admission: Admission,
        limits: MediaLimits,
        blobs: BlobSizes,
        threads: ThreadPool,
    ) -> None:
        self._root, self._take, self._threads = root, take, threads
        self._admission, self._limits, self._blobs = admission, limits, blobs

    async def recover(self) -> None:
        """Puts back the files that a killed process had set aside and not checked."""
        await self._threads.run(self._recover)

    async def announced(self, files: list[Fingerprint]) -> None:
        """Removes files whose media are durably announced."""
        if self._take and files:
            await self._threads.run(self._remove, files)

    async def known(self, files: list[Fingerprint]) -> None:
        """Removes files that the store knows from before, because a process died between announcing and
        removing them. They may also have been rejected, so only media whose blob exists are removed."""
        if self._take:
            for file in files:
                media = await self._threads.run(self._examine, file)
                if media is not None and await self._is_stored(media.blob):
                    await self._threads.run(self._remove, [file])

    def _recover(self) -> None:
        # Not os.walk, which cannot go a thousand levels down.
        folders = [self._root.full(folder) for folder in ("", *self._root.links)]
        while folders:
            try:
                with os.scandir(folders.pop()) as entries:
                    found = list(entries)
            except OSError:
                continue  # what is in it is put back by a later start
            folders += [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]
            for entry in found:
                if entry.name.startswith(SET_ASIDE_PREFIX):
                    _put_back(entry.path)

    def _examine(self, file: Fingerprint) -> ExaminedMedia | CompleteClip | None:
        camera = self._admission.of_file(file)
        if not isinstance(camera, SourceCamera):
            return None
        try:
            result = examine(self._root, file, camera, self._limits)
        except OSError as error:
            log.warning("known file not examined", path=file.path, error=str(error))
            return None
        return result if isinstance(result, ExaminedMedia | CompleteClip) else None

    async def _is_stored(self, blob: Blob) -> bool:
        """Retries for as long as the blobs are not available."""
        try:
            size = await retry(lambda: self._blobs.size(blob.sha256), "checking whether a blob exists")
        except NotFound:
            return False
        return size == blob.size

    def _remove(self, files: list[Fingerprint]) -> None:
        for file in files:
            try:
                if file.same_state(fingerprint(self._root, file.path)):
                    self._remove_unchanged(file)
            except OSError as error:
                log.warning("original not removed", path=file.path, error=str(error))

    def _remove_unchanged(self, file: Fingerprint) -> None:
        """Renames the file before it checks it again and removes it: under its own name, the camera could
        replace it after the check. Goes by the folder's descriptor, as a link could be put in its place."""
        folder, slash, name = file.path.rpartition("/")
        aside = f"{SET_ASIDE_PREFIX}{uuid4().hex}{Path(name).suffix}"
        descriptor = open_real_folder(self._root, folder)
        try:
            os.rename(name, aside, src_dir_fd=descriptor, dst_dir_fd=descriptor)
            path = f"{folder}{slash}{aside}"
            unchanged = file.same_content(fingerprint_in_real_folder(self._root, path))
            if unchanged and not open_for_writing(self._root / path):
                os.unlink(aside, dir_fd=descriptor)
            else:
                _put_back(aside, descriptor)
        finally:
            os.close(descriptor)


def _put_back(aside: str, descriptor: int | None = None) -> None:
    """Gives the file a visible name of its own, since its camera may have used the old name again. `aside` is
    relative to the folder of the descriptor."""
    folder, name = os.path.split(aside)
    visible = os.path.join(folder, name.removeprefix("."))
    try:
        os.rename(aside, visible, src_dir_fd=descriptor, dst_dir_fd=descriptor)
    except OSError as error:
        log.warning("original not put back", path=aside, error=str(error))
