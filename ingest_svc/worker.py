"""The worker loop: turns file events into complete files, and submits those to be imported and announced.

The loop does one thing after another, so that the order of the photos is easy to follow. Only reading and
storing the files, and sorting very many, runs in parallel. Live photos are submitted at once; the backlog
waits for its turns.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import structlog

from ingest_svc.admission import Admission, CameraTable
from ingest_svc.announcing import Announcer
from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.duplicate_filter import DuplicateFilter
from ingest_svc.file_backlog import Backlog, few_and_many
from ingest_svc.file_importer import FileImporter
from ingest_svc.fingerprint import Fingerprint, fingerprints
from ingest_svc.rejection import RejectionCause
from ingest_svc.thread_pool import ThreadPool
from ingest_svc.turns import Turns
from ingest_svc.waiting_files import WaitingFile
from ingest_svc.watching.camera_folders import CameraFolders
from ingest_svc.watching.completion import CompleteFile, CompletionTracker, Moment
from ingest_svc.watching.file_events import FileEventType, FolderEventType
from ingest_svc.watching.folder_scan import FolderScan
from ingest_svc.watching.folder_walk import camera_folder, camera_folder_names, outermost, walk
from ingest_svc.watching.folder_watcher import FolderAway, FolderWatcher
from ingest_svc.watching.ignored_names import IgnoredNames
from mesh.task_group import task_group

log = structlog.get_logger(__name__)

# How often, at most and at least, the worker checks that the cameras folder is still there; how often while
# it is not.
CHECK_SECONDS, IDLE_CHECK_SECONDS, AWAY_SECONDS = 0.25, 1.0, 0.5
# The most files that are checked in one round, so that live photos are submitted between two rounds; more if
# all would need more than MAX_ROUNDS, because each round looks through all.
MAX_CHECKED, MAX_ROUNDS = 300, 20


@dataclass(frozen=True)
class IngestProgress:
    """Counts the files that were seen and are not durably announced yet, with those of the backlog. While
    there are any, while the watcher lags behind, or while the cameras folder is away, at least one of the
    first three is not zero or false. `problem` says why the folder is away or why photos cannot be stored;
    empty if all is well. `unreadable` are the folders in it that cannot be read. `limit` says which limit of
    the system makes watching slower, if any."""

    settling: int
    unannounced: int
    scanning: bool
    problem: str = ""
    unreadable: tuple[str, ...] = ()
    limit: str = ""


class IngestWorker:
    """`run` and `follow_cameras` are its loops. `checks` runs functions that only read metadata of files."""

    def __init__(
        self,
        root: CamerasRoot,
        *,
        watcher: FolderWatcher,
        completion: CompletionTracker,
        folders: CameraFolders,
        admission: Admission,
        scan: FolderScan,
        importer: FileImporter,
        announcer: Announcer,
        turns: Turns,
        cameras: CameraTable,
        ignored: IgnoredNames,
        checks: ThreadPool,
    ) -> None:
        self._ignored = ignored
        self._root, self._watcher, self._completion, self._checks = root, watcher, completion, checks
        self._folders, self._admission, self._cameras = folders, admission, cameras
        self._camera_changes = cameras.subscribe()  # before `all`, so that no change is missed
        self._scan, self._importer = scan, importer
        self._duplicate_filter = DuplicateFilter(
            importer, announcer, on_change=self._check_again, on_done=completion.forget
        )
        self._backlog = Backlog(
            turns,
            camera=folders.camera,
            in_order=scan.in_capture_order,
            submit=self._submit_waiting,
            wake=watcher.events.wake,
        )
        # Folders to scan, folders to list (with the position of their files in the order of arrival), and
        # cameras whose configuration changed; each in the order in which it was requested.
        self._to_scan: dict[str, None] = {"": None}
        self._to_list: dict[str, int] = {}
        self._changed_cameras: dict[str, None] = {configured.camera.id: None for configured in cameras.all()}
        # When each camera was created. A different time means that it was deleted and created again.
        self._created_at: dict[str, int] = {}
        # Why the cameras folder is away, and whether something in it was gone that had just been there.
        self._problem, self._vanished = "", False
        self._checked_at = -CHECK_SECONDS

    async def caught_up(self) -> IngestProgress:
        """The status, including everything that happened before this call."""
        if not self._problem and await self._watcher.caught_up():
            return self.status()
        status = self.status()
        return replace(status, scanning=True, problem=status.problem or await self._why_away())

    async def _why_away(self) -> str:
        """Why the cameras folder is away, also if `run` has not noticed it yet; empty if it is there."""
        try:
            await self._checks.run(self._watcher.check)
        except FolderAway as away:
            return str(away)
        return ""

    def why_away(self) -> str:
        """Why the cameras folder cannot be used now; empty if it can, as far as is known."""
        return self._problem

    def status(self) -> IngestProgress:
        settling = len(self._watcher.events) + len(self._completion) + len(self._to_list)
        return IngestProgress(
            settling,
            self._duplicate_filter.pending + len(self._backlog),
            scanning=bool(self._to_scan or self._problem),
            problem=self._problem or self._importer.storage.problem,
            unreadable=tuple(sorted(folder for folder in self._watcher.watch.unreadable if folder)),
            limit=self._watcher.watch.limit,
        )

    async def follow_cameras(self) -> None:
        """Follows which cameras are created, deleted, enabled and disabled."""
        async for configured in self._camera_changes:
            self._changed_cameras[configured.camera.id] = None
            self._watcher.events.wake()

    async def run(self) -> None:
        """Runs until it is cancelled. Raises Internal WATCH_FAILED."""
        async with task_group() as tasks:
            tasks.create_task(self._backlog.sort())
            await self._run_rounds()

    async def _run_rounds(self) -> None:
        while True:
            try:
                elapsed = time.monotonic() - self._checked_at
                if self._problem or "" in self._to_scan or elapsed >= CHECK_SECONDS:
                    await self._check()
                await self._round()
                if self._vanished:  # perhaps because the whole cameras folder was not there
                    await self._check()
            except FolderAway as away:
                self._wait_for_folder(away)
            except OSError as error:
                self._wait_for_folder(FolderAway(error.strerror or str(error)))
            else:
                if self._problem:
                    self._problem = ""
                    log.info("the cameras folder is back")
            await self._watcher.events.wait(self._pause())

    async def _check(self) -> None:
        await self._checks.run(self._watcher.check)
        self._checked_at, self._vanished = time.monotonic(), False

    def _wait_for_folder(self, away: FolderAway) -> None:
        """Whatever happens until the cameras folder is back is found by a scan."""
        problem = str(away)
        if problem != self._problem:
            log.error("waiting for the cameras folder", error=problem)
        self._problem = problem
        self._to_scan[""] = None

    def _pause(self) -> float:
        if self._problem:
            return AWAY_SECONDS
        if self._to_scan or self._to_list:
            return 0.0
        now = time.monotonic()
        pauses = self._completion.pause(now), self._backlog.pause(now), IDLE_CHECK_SECONDS
        return min(pause for pause in pauses if pause is not None)

    async def _round(self) -> None:
        if "" in self._to_scan:
            await self._update_folders()
        await self._handle_camera_changes()
        # Events that arrive during a scan wait: files that were there before go first.
        if self._to_scan:
            await self._scan_folders(list(self._to_scan))
        await self._handle_events()
        if self._to_list:
            await self._list_folders(dict(self._to_list))
        await self._check_incomplete_files()
        # In this order, so that nothing is overtaken that need not wait.
        await self._backlog.submit()
        for folder in self._backlog.take_forgotten():
            self._to_scan[folder] = None
        await self._submit_complete_files()

    async def _handle_camera_changes(self) -> None:
        """Makes a folder for every camera, and scans those of cameras that accept photos again."""
        for camera_id in list(self._changed_cameras):
            del self._changed_cameras[camera_id]
            known, folder = self._cameras.get(camera_id), self._folders.folder(camera_id)
            if known is None:
                continue
            created_at = known.camera.created_at.ToNanoseconds()
            recreated = self._created_at.setdefault(camera_id, created_at) != created_at
            if known.deleted:
                continue
            if folder is None:
                await self._make_folder(camera_id)
            elif recreated or (camera_id in self._admission.skipped and self._admission.active(camera_id)):
                if recreated:  # the store dropped what was announced before the deletion was known here
                    self._duplicate_filter.forget(folder)
                self._admission.skipped.discard(camera_id)
                self._to_scan[folder] = None
            self._created_at[camera_id] = created_at

    async def _make_folder(self, camera_id: str) -> None:
        try:
            await self._checks.run((self._root.path / camera_id).mkdir, exist_ok=True)
        except OSError as error:
            log.warning("camera folder not made", camera=camera_id, error=str(error))
        else:
            await self._update_folders()

    async def _update_folders(self) -> None:
        names = await self._checks.run(camera_folder_names, self._root, self._ignored)
        changes = self._folders.update(names)
        if (
            "" not in self._to_scan
        ):  # a full scan includes the new folders, and asks the store about their files
            for folder in changes.added:
                self._to_list.setdefault(folder, self._completion.next_position())
        for folder, cause in changes.rejected.items():
            await self._duplicate_filter.reserve()
            self._duplicate_filter.submit(Fingerprint(folder), cause, time.monotonic())

    async def _scan_folders(self, folders: list[str]) -> None:
        await self._update_folders()  # the lost events may include one of a new folder
        result = await self._scan.run(outermost(folders), self._duplicate_filter.knows)
        for path in result.incomplete:
            self._completion.record(path, FileEventType.FOUND, time.monotonic())
        few, many = few_and_many(result.unknown)
        self._backlog.add_many(WaitingFile(file, time.monotonic()) for file in many)
        await self._backlog.add_found(await self._scan.in_capture_order(few))
        for folder in folders:
            del self._to_scan[folder]

    async def _handle_events(self) -> None:
        events, lost = self._watcher.events.take()
        if lost:
            log.warning("file events lost, scanning the cameras folder")
            self._to_scan[""] = None
        now, folders_changed = time.monotonic(), False
        for event in events:
            folder = camera_folder(event.path)
            folders_changed |= folder != event.path and not self._folders.known(folder)
            if isinstance(event.type, FileEventType):
                self._completion.record(event.path, event.type, now)
                continue
            folders_changed |= folder == event.path
            if event.type is FolderEventType.MISSED:
                self._to_scan.setdefault(event.path)
            elif event.type is FolderEventType.APPEARED and event.path:
                self._to_list.setdefault(event.path, self._completion.next_position())
        if folders_changed:
            await self._update_folders()

    async def _list_folders(self, positions: dict[str, int]) -> None:
        """Finds the files that were put into new folders before these were watched."""
        for folder in outermost(positions):
            files = await self._checks.run(self._files, folder)
            self._vanished |= not files
            for path in files:
                self._completion.record(path, FileEventType.FOUND, time.monotonic(), positions[folder])
        for folder in positions:
            del self._to_list[folder]

    def _files(self, folder: str) -> list[str]:
        return [file.path for file in walk(self._root, folder, self._ignored, self._watcher.watch.distrust)]

    async def _check_incomplete_files(self) -> None:
        most = max(MAX_CHECKED, len(self._completion) // MAX_ROUNDS)
        if due := self._completion.due(time.monotonic(), most):
            states, now = await self._checks.run(self._states, due), time.monotonic()
            for path, file, busy in states:
                self._completion.update(path, file, busy, now)
                if file is None:
                    self._missing(path)

    def _states(self, paths: list[str]) -> list[tuple[str, Fingerprint | None, bool]]:
        """(path, fingerprint, whether it is being written) of each file."""
        states, files = [], fingerprints(self._root, paths)
        for path in paths:
            file = files.get(path)
            writing = self._watcher.open_for_writing(self._root / path) if file is not None else False
            if writing is None:  # unknown: an empty file was probably just created
                writing = file is not None and file.size == 0
            states.append((path, file, writing))
        return states

    async def _submit_complete_files(self) -> None:
        if not (complete := self._completion.complete()):
            return
        found = await self._checks.run(fingerprints, self._root, [entry.path for entry in complete])
        for entry in await self._in_order(self._add_many(complete, found), found):
            file = found.get(entry.path)
            if file is None:
                self._missing(entry.path)
            if file is None and entry.moment is not None:  # it is being replaced, perhaps
                self._completion.retry(entry.path, time.monotonic())
            elif file is None or self._duplicate_filter.knows(file):
                self._completion.forget(entry.path)
            elif entry.moment is None:
                await self._backlog.add(file, entry.at)
            else:  # by its turn the moment would have passed
                await self._submit(file, entry.at, moment=entry.moment)
            self._completion.remove(entry)

    def _add_many(self, complete: list[CompleteFile], found: Mapping[str, Fingerprint]) -> list[CompleteFile]:
        """Adds those to the backlog that would take long to sort. Returns the others."""
        inferred = _with_inferred_completion(complete)
        _, many = few_and_many(
            found[entry.path]
            for entry in complete
            if camera_folder(entry.path) in inferred and entry.moment is None and entry.path in found
        )
        entries = {entry.path: entry for entry in complete}
        self._backlog.add_many(WaitingFile(file, entries[file.path].at) for file in many)
        for file in many:
            self._completion.remove(entries.pop(file.path))
        return list(entries.values())

    def _missing(self, path: str) -> None:
        """Notes that a file was not there, or could not be looked at, although it was reported."""
        self._vanished = True
        self._watcher.watch.missing(path)

    async def _in_order(
        self, complete: list[CompleteFile], found: dict[str, Fingerprint]
    ) -> list[CompleteFile]:
        """Sorts by completion. If the completion of one of a camera's files was not reported but inferred,
        that camera's files are sorted by capture time instead."""
        inferred = _with_inferred_completion(complete)
        unordered = [found[e.path] for e in complete if camera_folder(e.path) in inferred and e.path in found]
        in_order = await self._scan.in_capture_order(unordered)
        rank = {file.path: place for place, file in enumerate(in_order, 1)}
        return sorted(complete, key=lambda entry: rank.get(entry.path, 0))

    def _check_again(self, path: str) -> None:
        """Handles a file that changed, or vanished, while it was imported, or of which more may come."""
        now, unfinished = time.monotonic(), self._importer.unfinished_for(path)
        self._completion.retry(path, now)
        if unfinished is not None:
            self._completion.wait(path, unfinished, now)
        self._watcher.events.wake()

    async def _submit_waiting(self, waiting: WaitingFile, turns: Turns | None) -> None:
        if self._duplicate_filter.knows(waiting.file):
            self._completion.forget(waiting.file.path)
        else:
            await self._submit(waiting.file, waiting.complete_at, turns=turns)

    async def _submit(
        self,
        file: Fingerprint,
        completed_at: float,
        *,
        moment: Moment | None = None,
        turns: Turns | None = None,
    ) -> None:
        """`turns` is given if the file has waited for one."""
        owner = self._admission.of_file(file)
        if owner is None:
            self._completion.forget(file.path)
            return
        await self._duplicate_filter.reserve()
        if turns is None:
            self._duplicate_filter.submit(file, owner, completed_at, moment)
        else:
            end = turns.begin(None if isinstance(owner, RejectionCause) else owner.id)

            def end_turn() -> None:
                was_full = not turns.may_import
                end()
                if was_full:
                    self._watcher.events.wake()

            self._duplicate_filter.submit(file, owner, completed_at, end_turn=end_turn)


def _with_inferred_completion(complete: Iterable[CompleteFile]) -> set[str]:
    """The folders of cameras of which the completion of a file was not reported but inferred."""
    return {camera_folder(entry.path) for entry in complete if not entry.reported}
