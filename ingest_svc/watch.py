"""What happens in the cameras folder, from the system's own events or by polling."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from watchdog import events
from watchdog.observers.api import BaseObserver

from ingest_svc.fence import NAME, Fence
from ingest_svc.settling import Sign
from ingest_svc.sightings import FolderSign, Sighting, Sightings
from ingest_svc.tree import ignored
from ingest_svc.writers import open_for_writing
from mesh.problems import Unavailable

JOIN_SECONDS = 3.0

# What the system's events mean where it says when a file is closed.
CLOSING: dict[type[events.FileSystemEvent], Sign | FolderSign] = {
    events.FileCreatedEvent: Sign.FOUND,
    events.FileAttribEvent: Sign.FOUND,
    events.FileModifiedEvent: Sign.WRITTEN,
    events.FileClosedEvent: Sign.COMPLETE,
    events.FileMovedEvent: Sign.COMPLETE,
    events.DirCreatedEvent: FolderSign.APPEARED,
    events.DirMovedEvent: FolderSign.APPEARED,
    events.DirDeletedEvent: FolderSign.GONE,
}
# And where only sizes tell.
GUESSING = {
    **CLOSING,
    events.FileModifiedEvent: Sign.FOUND,
    events.FileMovedEvent: Sign.FOUND,
}


class _Handler(events.FileSystemEventHandler):
    def __init__(
        self,
        root: Path,
        meaning: dict[type[events.FileSystemEvent], Sign | FolderSign],
        sightings: Sightings,
        fence: Fence,
    ) -> None:
        self._prefix, self._meaning, self._sightings = f"{root}{os.sep}", meaning, sightings
        self._fence = fence

    def dispatch(self, event: events.FileSystemEvent) -> None:
        sign = self._meaning.get(type(event))
        if sign is None:
            return
        source, target = os.fsdecode(event.src_path), os.fsdecode(event.dest_path)
        if isinstance(event, events.FileSystemMovedEvent):
            if event.is_directory and source:
                self._put(source, FolderSign.GONE)
            if target:
                self._put(target, sign)
        else:
            self._put(source, sign)

    def _put(self, full: str, sign: Sign | FolderSign) -> None:
        path = full.removeprefix(self._prefix) if full.startswith(self._prefix) else ""
        path = path.replace(os.sep, "/")
        if path.startswith(NAME):
            self._fence.passed(path)
        elif not ignored(path):
            self._sightings.put(Sighting(path, sign))


@dataclass(frozen=True)
class Watch:
    """`closes`: the system says when a file was closed after writing. `inode` is that of the folder watched;
    None where it is looked up by name each time."""

    root: Path
    sightings: Sightings
    fence: Fence
    observer: BaseObserver
    closes: bool
    inode: int | None

    def writing(self, path: Path) -> bool | None:
        """Whether somebody still has it open for writing; None where the system cannot tell now, but will
        when it is closed."""
        return open_for_writing(path) if self.closes else False

    async def caught_up(self) -> bool:
        """Whether all that happened before is sighted, where the system tells it at once."""
        return self.inode is None or await self.fence.wait()

    def check(self) -> None:
        """Raises Unavailable where nobody watches any more, as when the folder was removed."""
        try:
            inode = self.root.stat().st_ino
        except OSError:
            inode = -1
        alive = self.observer.is_alive() and all(emitter.is_alive() for emitter in self.observer.emitters)
        if not alive or inode == -1 or self.inode not in (None, inode):
            raise Unavailable("the cameras folder is no longer watched: is it still there?", "WATCH_LOST")


@asynccontextmanager
async def watching(root: Path, poll_seconds: float | None) -> AsyncIterator[Watch]:
    """Whatever changes after the block is entered is sighted. `root` is absolute and free of links.
    `poll_seconds` None: native events. Raises Unavailable where the system grants no watch."""
    sightings, fence = Sightings(), Fence(root)
    observer, meaning = _observer(poll_seconds, sightings)
    handler = _Handler(root, meaning, sightings, fence)
    try:
        observer.schedule(handler, str(root), recursive=True, event_filter=list(meaning))
        await asyncio.to_thread(observer.start)
    except OSError as error:
        raise Unavailable(
            f"the cameras folder cannot be watched: {error.strerror}; raise fs.inotify.max_user_watches or"
            " set LARES_INGEST_POLLING=true",
            "WATCH_REFUSED",
        ) from None
    try:
        inode = None if poll_seconds is not None else root.stat().st_ino
        yield Watch(root, sightings, fence, observer, meaning is CLOSING, inode)
    finally:
        observer.stop()
        await asyncio.to_thread(observer.join, JOIN_SECONDS)


def _observer(
    poll_seconds: float | None, sightings: Sightings
) -> tuple[BaseObserver, dict[type[events.FileSystemEvent], Sign | FolderSign]]:
    if poll_seconds is not None:
        from watchdog.observers.polling import PollingObserverVFS

        # lstat: links are neither followed nor walked in circles.
        return PollingObserverVFS(os.lstat, os.scandir, polling_interval=poll_seconds), GUESSING
    try:
        from ingest_svc.inotify import InotifyObserver
    except (ImportError, OSError, AttributeError):
        from watchdog.observers import Observer

        return Observer(), GUESSING
    return InotifyObserver(sightings), CLOSING
