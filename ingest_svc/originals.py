"""What becomes of a file once its photo is durable: it stays, or with `take` it goes."""

from pathlib import Path
from typing import Protocol

import structlog

from ingest_svc.admission import Admission
from ingest_svc.examination import Examined, examine
from ingest_svc.fingerprint import Fingerprint, fingerprint
from ingest_svc.inspection import Limits
from ingest_svc.photo import Camera
from ingest_svc.threads import Threads

log = structlog.get_logger(__name__)


class BlobPaths(Protocol):
    """The part of mesh.blobs.Blobs that is needed here."""

    def path(self, sha256: str) -> Path: ...


class Originals:
    """With `take` false it does nothing."""

    def __init__(
        self, root: Path, take: bool, admission: Admission, limits: Limits, blobs: BlobPaths, threads: Threads
    ) -> None:
        self._root, self._take, self._threads = root, take, threads
        self._admission, self._limits, self._blobs = admission, limits, blobs

    async def announced(self, files: list[Fingerprint]) -> None:
        """Their photos are durably announced."""
        if self._take and files:
            await self._threads.run(self._remove, files)

    async def known(self, files: list[Fingerprint]) -> None:
        """The store knows them: somebody died between announcing and taking, or they were rejected. Only
        what is a photo whose content is kept goes."""
        if self._take:
            for file in files:
                await self._threads.run(self._reclaim, file)

    def _reclaim(self, file: Fingerprint) -> None:
        camera = self._admission.of_file(file)
        if not isinstance(camera, Camera):
            return
        try:
            verdict = examine(self._root, file, camera, self._limits)
        except OSError as error:
            log.warning("known file not taken", path=file.path, error=str(error))
            return
        if isinstance(verdict, Examined) and self._blobs.path(verdict.sha256).exists():
            self._remove([file])

    def _remove(self, files: list[Fingerprint]) -> None:
        for file in files:
            try:
                if file.same_state(fingerprint(self._root, file.path)):
                    (self._root / file.path).unlink()
            except OSError as error:
                log.warning("original not removed", path=file.path, error=str(error))
