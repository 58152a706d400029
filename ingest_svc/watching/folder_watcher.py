"""Watches the cameras folder, by the system's native events or by polling, and guards its lock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from watchdog.utils import UnsupportedLibcError

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.folder_lock import FolderLock
from ingest_svc.watching.file_events import FileEventQueue
from ingest_svc.watching.folder_state import folder_state, is_mount_point
from ingest_svc.watching.folder_watch import FolderWatch
from ingest_svc.watching.ignored_names import IgnoredNames
from ingest_svc.watching.open_files import open_for_writing
from ingest_svc.watching.polling_watch import PollingWatch
from ingest_svc.watching.watch_barrier import WatchBarrier
from mesh.problems import Conflict, Internal, Unavailable

JOIN_SECONDS = 3.0
# How often the cameras folder is polled if it cannot be watched natively.
FALLBACK_POLL_SECONDS = 1.0

log = structlog.get_logger(__name__)


class FolderAway(Unavailable):
    """The cameras folder is not there, cannot be read, or is not watched yet after it came back."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the cameras folder is away: {why}", "CAMERAS_FOLDER")


@dataclass
class FolderWatcher:
    """`mounted`: the cameras folder is a mount point."""

    root: Path
    events: FileEventQueue
    barrier: WatchBarrier
    watch: FolderWatch
    lock: FolderLock
    mounted: bool

    def __post_init__(self) -> None:
        self._checked = self.watch.identity

    def open_for_writing(self, path: Path) -> bool | None:
        """Whether any process has the file open for writing; None if that is unknown now but an event will
        report when it is closed."""
        return open_for_writing(path) if self.watch.reports_close else False

    async def caught_up(self) -> bool:
        """Waits until everything that happened before is in `events`; returns False if that is unknown. With
        polling it returns True at once if the cameras folder is there: changes since the last poll are not
        known yet."""
        if self.watch.reports_close:
            return await self.barrier.wait()
        return await asyncio.to_thread(self._is_there)

    def _is_there(self) -> bool:
        try:
            return folder_state(str(self.root)).identity == self.watch.identity
        except OSError:
            return False

    def check(self) -> None:
        """Makes sure that the folder that is there now is locked and watched. Blocks.

        Raises FolderAway if it is not, for now; Internal WATCH_FAILED if it never will be again.
        """
        if self.watch.failure is not None or not self.watch.is_alive():
            raise Internal(f"the cameras folder is no longer watched: {self.watch.failure!r}", "WATCH_FAILED")
        try:
            identity = folder_state(str(self.root)).identity
            if identity != self._checked:
                mounted = is_mount_point(str(self.root))
                if self.mounted and not mounted:  # what is there now is only the place for the mount
                    raise OSError("nothing is mounted there")
                self.mounted = mounted
            self.lock.renew()
        except OSError as error:
            self.watch.look()
            raise FolderAway(error.strerror or str(error)) from None
        except Conflict as problem:
            raise FolderAway(str(problem)) from None
        if identity != self.watch.identity:
            self.watch.look()
            why = self.watch.unreadable.get("", "it is another folder than before, and not watched yet")
            raise FolderAway(why)
        self._checked = identity


@asynccontextmanager
async def watch_folder(
    root: CamerasRoot, lock: FolderLock, poll_seconds: float | None, ignored: IgnoredNames
) -> AsyncIterator[FolderWatcher]:
    """Reports every change that happens after the block is entered.
    `poll_seconds` None means native events, where the system has any."""
    events, barrier = FileEventQueue(), WatchBarrier(root.path)
    watch = await asyncio.to_thread(_prepared, root, ignored, events, barrier, poll_seconds)
    try:
        watch.start()
        yield FolderWatcher(root.path, events, barrier, watch, lock, is_mount_point(str(root.path)))
    finally:
        watch.stop()
        if watch.is_alive():
            await asyncio.to_thread(watch.join, JOIN_SECONDS)
        if not watch.is_alive():
            watch.close()


def _prepared(
    root: CamerasRoot,
    ignored: IgnoredNames,
    events: FileEventQueue,
    barrier: WatchBarrier,
    poll_seconds: float | None,
) -> FolderWatch:
    limit = ""
    if poll_seconds is None:
        try:
            return _native(root, ignored, events, barrier)
        except UnsupportedLibcError:
            log.warning("this system has no inotify, polling the cameras folder")
        except OSError as error:
            limit = (
                f"the system cannot watch the cameras folder, which is polled ({error.strerror or error}):"
                " raise fs.inotify.max_user_watches and fs.inotify.max_user_instances"
            )
            log.error(limit)
    polling = PollingWatch(root, ignored, events, poll_seconds or FALLBACK_POLL_SECONDS, limit)
    polling.prepare()
    return polling


def _native(
    root: CamerasRoot, ignored: IgnoredNames, events: FileEventQueue, barrier: WatchBarrier
) -> FolderWatch:
    from ingest_svc.watching.native_watch import NativeWatch

    watch = NativeWatch(root, ignored, events, barrier)
    try:
        watch.prepare()
    except OSError:
        watch.close()
        raise
    return watch
