"""Decides which process of ingest_svc watches the cameras folder: the one that holds its lease.

The lease is there to share the work, not for correctness: announcing a file twice is harmless, since ids
follow from the content, and a file that was removed (`take`) is removed once. Without it each process would
read every file, ask the store about all of them, and remove files that another is reading. Whoever does not
know whether it still holds the lease announces and removes nothing. At most what was on its way to Kafka in
that moment may still arrive while the next one begins.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import structlog

from ingest_svc.announcing import Announcer
from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.folder_id import folder_id, read_folder_id
from ingest_svc.leases import Lease, Leases
from ingest_svc.thread_pool import ThreadPool
from ingest_svc.watching.camera_folders import CameraFolders
from ingest_svc.watching.folder_state import is_mount_point
from ingest_svc.watching.folder_walk import camera_folder_names
from ingest_svc.watching.folder_watcher import FolderAway
from ingest_svc.watching.ignored_names import IgnoredNames
from ingest_svc.worker import IngestProgress, IngestWorker
from mesh.problems import Problem
from mesh.task_group import until_first_ends

log = structlog.get_logger(__name__)

# How often a process that stands by asks for the lease within its length, and how often at most and at least.
ASKED, LEAST_SECONDS, MOST_SECONDS = 5, 0.1, 2.0
# How often to look whether the cameras folder is another one, or has come back.
LOOK_SECONDS, AWAY_SECONDS = 1.0, 0.5


class Duty(Enum):
    """What this process has to do with the cameras folder."""

    WATCHING = "watching"
    STANDING_BY = "standing by"
    # It may only receive.
    NONE = "none"


@dataclass(frozen=True)
class FolderWatching:
    """What watches the cameras folder while the lease is held, and announces its files."""

    announcer: Announcer
    worker: IngestWorker

    @property
    def loops(self) -> list[Coroutine[Any, Any, None]]:
        return [self.announcer.run(), self.worker.follow_cameras(), self.worker.run()]


OpenWatching = Callable[[Lease], AbstractAsyncContextManager[FolderWatching]]


class FolderDuty:
    """`run` is its loop. `may_watch`: it stands by, and watches when nobody else does; if not, and files are
    put into the folder here, `may_receive`, somebody else must watch it. `open_watching` begins to watch;
    everything that it does outside of this process must wait until the lease is held."""

    def __init__(
        self,
        root: CamerasRoot,
        leases: Leases,
        seconds: float,
        open_watching: OpenWatching,
        *,
        may_watch: bool,
        may_receive: bool,
        folders: CameraFolders,
        ignored: IgnoredNames,
        checks: ThreadPool,
    ) -> None:
        self._root, self._leases, self._seconds = root, leases, seconds
        self._open_watching, self._may_watch = open_watching, may_watch
        # Whether this process uses the folder at all.
        self.is_needed = may_watch or may_receive
        self._folders, self._ignored, self._checks = folders, ignored, checks
        self._pause = min(max(seconds / ASKED, LEAST_SECONDS), MOST_SECONDS)
        self._mounted = False
        self._stopping, self._stopped = asyncio.Event(), asyncio.Event()
        # Why nothing can be watched now.
        self._problem = ""
        self._watching: FolderWatching | None = None
        # Who watches, if it is another process and is known.
        self.watcher = ""

    @property
    def duty(self) -> Duty:
        if not self._may_watch:
            return Duty.NONE
        return Duty.WATCHING if self._watching else Duty.STANDING_BY

    def status(self) -> IngestProgress:
        """Of the files that this process knows of. While it is not decided who watches, it is `scanning`."""
        if self._watching:
            return self._watching.worker.status()
        undecided = self._may_watch and not self.watcher
        return IngestProgress(0, 0, scanning=undecided or bool(self._problem), problem=self._problem)

    async def caught_up(self) -> IngestProgress:
        """The status, including everything that happened before this call."""
        return await self._watching.worker.caught_up() if self._watching else self.status()

    def why_away(self) -> str:
        """Why the cameras folder cannot be used now, or nobody watches it; empty if it can, as far as is
        known."""
        return self._watching.worker.why_away() if self._watching else self._problem

    async def run(self) -> None:
        """Runs until it is cancelled. Raises what the worker raises."""
        try:
            while self.is_needed and not self._stopping.is_set():
                await self._take_and_watch()
        finally:
            self._stopped.set()
        await asyncio.Event().wait()  # until it is cancelled

    async def _take_and_watch(self) -> None:
        """Asks for the lease, and watches for as long as it is held, or waits a while."""
        try:
            id = await self._checks.run(self._folder_id)
            lease = await self._take(f"folder/{id}")
        except OSError as error:
            self._tell(str(FolderAway(error.strerror or str(error))))
        except FolderAway as away:
            self._tell(str(away))
        except Problem as problem:
            self._tell(f"the store does not say who watches the cameras folder: {problem.message}")
        else:
            self._tell("")
            if lease is not None:
                await self._watch(lease, id)
                return
        await self._sleep(AWAY_SECONDS if self._problem else self._pause)

    async def stop(self) -> None:
        """Ends watching, so that another process begins at once: this one is about to end."""
        self._stopping.set()
        await self._stopped.wait()

    @asynccontextmanager
    async def watching(self, lease: Lease) -> AsyncIterator[FolderWatching]:
        """Watches the cameras folder until the block ends; the caller runs the loops."""
        self._folders.forget_rejections()
        async with self._open_watching(lease) as watching:
            self._watching, self.watcher = watching, ""
            try:
                yield watching
            finally:
                self._watching = None

    def _tell(self, problem: str) -> None:
        if problem and problem != self._problem:
            log.error("not watching the cameras folder", error=problem)
        self._problem = problem

    async def _take(self, name: str) -> Lease | None:
        if not self._may_watch:
            last = await self._leases.last_held(name)
            self.watcher = last.holder
            if not last.holder:
                raise FolderAway("no ingest_svc watches it, and what is put into it is not taken in")
            return None
        taken = await self._leases.take(name, self._seconds)
        if isinstance(taken, Lease):
            return taken
        if taken != self.watcher:
            log.info("standing by, another ingest_svc watches the cameras folder", watcher=taken)
        self.watcher = taken
        return None

    async def _watch(self, lease: Lease, id: str) -> None:
        log.info("watching the cameras folder", path=str(self._root.path), folder=id)
        try:
            async with self.watching(lease) as watching:
                ends = (lease.until_lost(), self._until_replaced(id), self._stopping.wait())
                await until_first_ends(*watching.loops, *ends)
        finally:
            lost = lease.lost
            await self._leases.end(lease)
        log.info("no longer watching the cameras folder", lost=lost)

    async def _until_replaced(self, id: str) -> None:
        """Waits until there is another folder in place of the one with this id. One without an id is none: it
        is where the folder was mounted, perhaps."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                found = await self._checks.run(read_folder_id, self._root.path)
            except OSError:
                continue
            if found not in ("", id):
                log.warning("the cameras folder was replaced by another one", folder=found)
                return

    def _folder_id(self) -> str:
        """Blocks. Raises OSError if the folder is away."""
        mounted = is_mount_point(str(self._root.path))
        if self._mounted and not mounted:  # what is there now is only the place for the mount
            raise OSError("nothing is mounted there")
        self._mounted = mounted
        id = folder_id(self._root.path)
        # Receivers need the names of the cameras' folders.
        self._root.refresh()
        self._folders.update(camera_folder_names(self._root, self._ignored))
        return id

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
