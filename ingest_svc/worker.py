"""The loop: what was seen settles, is taken in and announced. One thing after another, so that the order is
plain; only the reading and storing of files is parallel."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import structlog

from ingest_svc.admission import Admission
from ingest_svc.announcing import Announcer
from ingest_svc.desk import Desk
from ingest_svc.fingerprint import Fingerprint, fingerprints
from ingest_svc.folders import Folders
from ingest_svc.intake import Intake
from ingest_svc.scan import Scan
from ingest_svc.settling import Complete, Settling, Sign
from ingest_svc.sightings import FolderSign
from ingest_svc.threads import Threads
from ingest_svc.tree import camera_folder, camera_folders, walk
from ingest_svc.watch import Watch
from lares.store.v1.events_pb2 import CameraConfigured

log = structlog.get_logger(__name__)

CHECK_SECONDS = 5.0
BLIND_SECONDS = 60.0


class CameraTable(Protocol):
    """The part of mesh.cameras.CameraConfigurations that is needed here."""

    def get(self, camera_id: str) -> CameraConfigured | None: ...

    def all(self) -> list[CameraConfigured]: ...

    def subscribe(self) -> AsyncIterator[CameraConfigured]: ...


@dataclass(frozen=True)
class Status:
    """What was seen and is not yet durably announced. Never all zero while there is any, nor while the watch
    lags behind: then it is `scanning`, too."""

    settling: int
    unannounced: int
    scanning: bool


class Worker:
    """`run` and `follow` are its loops."""

    def __init__(
        self,
        root: Path,
        watch: Watch,
        settling: Settling,
        folders: Folders,
        admission: Admission,
        scan: Scan,
        intake: Intake,
        announcer: Announcer,
        cameras: CameraTable,
        looks: Threads,
    ) -> None:
        self._root, self._watch, self._settling, self._looks = root, watch, settling, looks
        self._folders, self._admission, self._cameras = folders, admission, cameras
        self._changes = cameras.subscribe()  # before `all`: nothing falls between
        self._scan, self._desk = scan, Desk(intake, announcer, self._again)
        # Folders to scan, folders to list with the turn of their files, cameras to attend to, in the order in
        # which that was asked for.
        self._scans: dict[str, None] = {"": None}
        self._listings: dict[str, int] = {}
        self._changed: dict[str, None] = {configured.camera.id: None for configured in cameras.all()}
        # When each camera was made, last we knew: another time means that it was deleted and made again.
        self._made: dict[str, int] = {}
        self._scanned_at = time.monotonic()

    async def caught_up(self) -> Status:
        """The status, with all counted that happened before this call."""
        seen_all = await self._watch.caught_up()
        status = self.status()
        return status if seen_all else replace(status, scanning=True)

    def status(self) -> Status:
        settling = len(self._watch.sightings) + len(self._settling) + len(self._listings)
        return Status(settling, self._desk.pending, scanning=bool(self._scans))

    async def follow(self) -> None:
        """Learns of cameras made, deleted, enabled, disabled."""
        async for configured in self._changes:
            self._changed[configured.camera.id] = None
            self._watch.sightings.wake()

    async def run(self) -> None:
        await self._look_at_folders()
        while True:
            await self._round()
            await self._watch.sightings.wait(self._pause())
            await self._looks.run(self._watch.check)

    def _pause(self) -> float:
        if self._scans or self._listings:
            return 0.0
        pause = self._settling.pause(time.monotonic())
        return CHECK_SECONDS if pause is None else min(pause, CHECK_SECONDS)

    async def _round(self) -> None:
        await self._attend_to_cameras()
        if self._watch.sightings.blind and time.monotonic() - self._scanned_at > BLIND_SECONDS:
            self._scans[""] = None
        # What the watch sees meanwhile waits: what lay there before goes first.
        for below in list(self._scans):
            await self._scan_below(below)
        await self._see()
        for folder, turn in list(self._listings.items()):
            await self._list(folder, turn)
        await self._look()
        await self._submit()

    async def _attend_to_cameras(self) -> None:
        """Every camera has a folder; one that may send again is scanned."""
        for camera_id in list(self._changed):
            del self._changed[camera_id]
            known, folder = self._cameras.get(camera_id), self._folders.folder(camera_id)
            if known is None:
                continue
            made = known.camera.created_at.ToNanoseconds()
            revived = self._made.setdefault(camera_id, made) != made
            if known.deleted:
                continue
            if folder is None:
                await self._make(camera_id)
            elif revived or (camera_id in self._admission.left_alone and self._admission.active(camera_id)):
                if revived:  # what we announced before we heard that it was deleted, the store has dropped
                    self._desk.forget(folder)
                self._admission.left_alone.discard(camera_id)
                self._scans[folder] = None
            self._made[camera_id] = made

    async def _make(self, camera_id: str) -> None:
        try:
            await self._looks.run((self._root / camera_id).mkdir, exist_ok=True)
        except OSError as error:
            log.warning("camera folder not made", camera=camera_id, error=str(error))
        else:
            await self._look_at_folders()

    async def _look_at_folders(self) -> None:
        change = self._folders.look(await self._looks.run(camera_folders, self._root))
        if "" not in self._scans:  # which will come to them anyway, and ask the store first
            for folder in change.gained:
                self._listings.setdefault(folder, self._settling.turn())
        for folder, refusal in change.refused.items():
            await self._desk.room()
            self._desk.submit(Fingerprint(folder), refusal, time.monotonic())

    async def _scan_below(self, below: str) -> None:
        await self._look_at_folders()  # what was lost may have been a folder
        found = await self._scan.run(below, self._desk.knows)
        for path in found.unsettled:
            self._settling.see(path, Sign.FOUND, time.monotonic())
        for file in found.unknown:
            await self._take_in(file, time.monotonic())
        self._scanned_at = time.monotonic()
        del self._scans[below]

    async def _see(self) -> None:
        seen, lost = self._watch.sightings.take()
        if lost:
            log.warning("events were lost, looking through everything")
            self._scans[""] = None
        now, folders_changed = time.monotonic(), False
        for sighting in seen:
            folder = camera_folder(sighting.path)
            folders_changed |= folder != sighting.path and not self._folders.known(folder)
            if isinstance(sighting.sign, Sign):
                self._settling.see(sighting.path, sighting.sign, now)
                continue
            folders_changed |= folder == sighting.path
            if sighting.sign is FolderSign.APPEARED and sighting.path:
                self._listings.setdefault(sighting.path, self._settling.turn())
        if folders_changed:
            await self._look_at_folders()

    async def _list(self, folder: str, turn: int) -> None:
        """A new folder may hold what came before anybody watched it."""
        files = await self._looks.run(lambda: [file.path for file in walk(self._root, folder)])
        for path in files:
            self._settling.see(path, Sign.FOUND, time.monotonic(), turn)
        del self._listings[folder]

    async def _look(self) -> None:
        if due := self._settling.due(time.monotonic()):
            states, now = await self._looks.run(self._states, due), time.monotonic()
            for path, file, busy in states:
                self._settling.look(path, file, busy, now)

    def _states(self, paths: list[str]) -> list[tuple[str, Fingerprint | None, bool]]:
        states, files = [], fingerprints(self._root, paths)
        for path in paths:
            file = files.get(path)
            writing = self._watch.writing(self._root / path) if file is not None else False
            # Where nobody can tell, an empty file is one that was just made.
            states.append((path, file, file is not None and file.size == 0 if writing is None else writing))
        return states

    async def _submit(self) -> None:
        complete = self._settling.complete()
        there = await self._looks.run(fingerprints, self._root, [entry.path for entry in complete])
        for entry in await self._in_order(complete, there):
            file = there.get(entry.path)
            if file is not None and not self._desk.knows(file):
                await self._take_in(file, entry.at)
            self._settling.take(entry)

    async def _in_order(self, complete: list[Complete], there: dict[str, Fingerprint]) -> list[Complete]:
        """By completion; a camera's by capture where it is a guess when one of them was complete."""
        guessed = {camera_folder(entry.path) for entry in complete if not entry.said}
        unsure = [there[e.path] for e in complete if camera_folder(e.path) in guessed and e.path in there]
        rank = {file.path: at for at, file in enumerate(await self._scan.in_capture_order(unsure), 1)}
        return sorted(complete, key=lambda entry: rank.get(entry.path, 0))

    def _again(self, path: str) -> None:
        """It became another, or went, while it was in hand."""
        self._settling.see(path, Sign.FOUND, time.monotonic())
        self._watch.sightings.wake()

    async def _take_in(self, file: Fingerprint, at: float) -> None:
        whose = self._admission.of_file(file)
        if whose is not None:
            await self._desk.room()
            self._desk.submit(file, whose, at)
