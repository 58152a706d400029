"""Removes the file of a photo once the photo is announced, if LARES_INGEST_ORIGINALS is `take`."""

import os
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import structlog

from ingest_svc.admission import Admission
from ingest_svc.examination import ExaminedPhoto, examine
from ingest_svc.facts import SourceCamera
from ingest_svc.fingerprint import Fingerprint, fingerprint, fingerprint_in_real_folder
from ingest_svc.formats.inspection import PhotoLimits
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
        root: Path,
        take: bool,
        admission: Admission,
        limits: PhotoLimits,
        blobs: BlobSizes,
        threads: ThreadPool,
    ) -> None:
        self._root, self._take, self._threads = root, take, threads
        self._admission, self._limits, self._blobs = admission, limits, blobs

    async def recover(self) -> None:
        """Puts back the files that a killed process had set aside and not checked."""
        await self._threads.run(self._recover)

    async def announced(self, files: list[Fingerprint]) -> None:
        """Removes files whose photos are durably announced."""
        if self._take and files:
            await self._threads.run(self._remove, files)

    async def known(self, files: list[Fingerprint]) -> None:
        """Removes files that the store knows from before, because a process died between announcing and
        removing them. They may also have been rejected, so only photos whose blob exists are removed."""
        if self._take:
            for file in files:
                photo = await self._threads.run(self._examine, file)
                if photo is not None and await self._is_stored(photo.blob):
                    await self._threads.run(self._remove, [file])

    def _recover(self) -> None:
        folders = [str(self._root)]  # not os.walk, which cannot go a thousand levels down
        while folders:
            try:
                with os.scandir(folders.pop()) as entries:
                    found = list(entries)
            except OSError:
                continue  # what is in it is put back by a later start
            folders += [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]
            for entry in found:
                if entry.name.startswith(SET_ASIDE_PREFIX):
                    _put_back(Path(entry.path))

    def _examine(self, file: Fingerprint) -> ExaminedPhoto | None:
        camera = self._admission.of_file(file)
        if not isinstance(camera, SourceCamera):
            return None
        try:
            result = examine(self._root, file, camera, self._limits)
        except OSError as error:
            log.warning("known file not examined", path=file.path, error=str(error))
            return None
        return result if isinstance(result, ExaminedPhoto) else None

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
        replace it after the check."""
        path = self._root / file.path
        aside = path.with_name(f"{SET_ASIDE_PREFIX}{uuid4().hex}{path.suffix}")
        path.rename(aside)
        relative = str(aside.relative_to(self._root))
        unchanged = file.same_content(fingerprint_in_real_folder(self._root, relative))
        if unchanged and not open_for_writing(aside):
            aside.unlink()
        else:
            _put_back(aside)


def _put_back(aside: Path) -> None:
    """Gives the file a visible name of its own, since its camera may have used the old name again."""
    try:
        aside.rename(aside.with_name(aside.name.removeprefix(".")))
    except OSError as error:
        log.warning("original not put back", path=str(aside), error=str(error))
