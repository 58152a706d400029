"""What becomes of a file once its photo is durable: it stays, or with `take` it goes."""

import os
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import structlog

from ingest_svc.admission import Admission
from ingest_svc.examination import Examined, examine
from ingest_svc.fingerprint import Fingerprint, fingerprint, listed
from ingest_svc.inspection import Limits
from ingest_svc.photo import Camera
from ingest_svc.retry import until_done
from ingest_svc.threads import Threads
from ingest_svc.writers import open_for_writing
from mesh.blobs import Blob
from mesh.problems import NotFound

# The name of a file while it is taken: none that a camera uses, and one that the watch ignores.
ASIDE = ".lares-taken-"

log = structlog.get_logger(__name__)


class BlobSizes(Protocol):
    """The part of mesh.blobs.Blobs that is needed here."""

    async def size(self, sha256: str) -> int: ...


class Originals:
    """With `take` false it does nothing."""

    def __init__(
        self, root: Path, take: bool, admission: Admission, limits: Limits, blobs: BlobSizes, threads: Threads
    ) -> None:
        self._root, self._take, self._threads = root, take, threads
        self._admission, self._limits, self._blobs = admission, limits, blobs

    async def recover(self) -> None:
        """Puts back what a killed process had aside: nobody knows what it would have found."""
        await self._threads.run(self._recover)

    async def announced(self, files: list[Fingerprint]) -> None:
        """Their photos are durably announced."""
        if self._take and files:
            await self._threads.run(self._remove, files)

    async def known(self, files: list[Fingerprint]) -> None:
        """The store knows them: somebody died between announcing and taking, or they were rejected. Only
        what is a photo whose content is kept goes."""
        if self._take:
            for file in files:
                photo = await self._threads.run(self._examined, file)
                if photo is not None and await self._is_kept(photo.blob):
                    await self._threads.run(self._remove, [file])

    def _recover(self) -> None:
        for folder, _, names in os.walk(self._root):
            for name in names:
                if name.startswith(ASIDE):
                    _put_back(Path(folder, name))

    def _examined(self, file: Fingerprint) -> Examined | None:
        camera = self._admission.of_file(file)
        if not isinstance(camera, Camera):
            return None
        try:
            verdict = examine(self._root, file, camera, self._limits)
        except OSError as error:
            log.warning("known file not taken", path=file.path, error=str(error))
            return None
        return verdict if isinstance(verdict, Examined) else None

    async def _is_kept(self, blob: Blob) -> bool:
        """Waits as long as it takes for blobs that do not answer."""
        try:
            size = await until_done(lambda: self._blobs.size(blob.sha256), "asking for a blob")
        except NotFound:
            return False
        return size == blob.size

    def _remove(self, files: list[Fingerprint]) -> None:
        for file in files:
            try:
                if file.same_state(fingerprint(self._root, file.path)):
                    self._take_away(file)
            except OSError as error:
                log.warning("original not removed", path=file.path, error=str(error))

    def _take_away(self, file: Fingerprint) -> None:
        """By way of another name: under its own a camera might replace it after the last look at it."""
        path = self._root / file.path
        aside = path.with_name(f"{ASIDE}{uuid4().hex}{path.suffix}")
        path.rename(aside)
        same = file.renamed(listed(self._root, str(aside.relative_to(self._root))))
        if same and not open_for_writing(aside):
            aside.unlink()
        else:
            _put_back(aside)


def _put_back(aside: Path) -> None:
    """As a file of its own: its camera may have used the old name again."""
    try:
        aside.rename(aside.with_name(aside.name.removeprefix(".")))
    except OSError as error:
        log.warning("file not put back", path=str(aside), error=str(error))
