"""Disks and brokers that fail: nothing is lost, nothing is announced before it is durable."""

import asyncio
import errno
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import pytest
from opentelemetry.trace import Span

from ingest_svc.announcing import BACKLOG, Announcer
from ingest_svc.facts import Fact, RejectedFile
from ingest_svc.fingerprint import Fingerprint
from ingest_svc.rejection import OUTSIDE_LINK
from ingest_svc.watching.file_events import FileEvent, FileEventType
from mesh.blobs import FileBlobs, SpooledFile
from mesh.blobs.spool import Spool, read_at
from mesh.problems import Internal, Unavailable
from tests.support.blobs import content_of
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.waiting import until


class FakeBlobs(FileBlobs):
    """Real ones on a disk that fails, hangs, or that takes so long that the original changes meanwhile."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.failures: list[Exception] = []
        self.open = asyncio.Event()
        self.open.set()
        self.before: Callable[[], object] = lambda: None
        self.after: Callable[[], object] = lambda: None

    async def _store(self, spooled: SpooledFile) -> None:
        await self.open.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.before()
        await super()._store(spooled)
        self.after()


@pytest.fixture
async def blobs(harness: IngestHarness) -> FakeBlobs:
    harness.blobs.close()
    harness.blobs = blobs = FakeBlobs(harness.home / "media")
    return blobs


@pytest.mark.parametrize(
    "failure",
    [OSError(errno.ENOSPC, "No space left on device"), Unavailable("away", "BLOBS_UNAVAILABLE")],
    ids=["disk", "blobs"],
)
async def test_a_full_disk_and_a_lost_broker_are_waited_for(
    harness: IngestHarness, blobs: FakeBlobs, failure: Exception
) -> None:
    """And so are blobs that do not answer, as those in a bucket."""
    blobs.failures = [failure] * 2
    harness.bus.failures = [Unavailable("no broker", "BUS_UNAVAILABLE")] * 2
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.idle and harness.paths)
    assert harness.paths == ["door/one.jpg"]
    assert not blobs.failures
    assert not harness.bus.failures


async def test_nothing_is_announced_before_its_blob_is_durable(
    harness: IngestHarness, blobs: FakeBlobs
) -> None:
    blobs.open.clear()
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.ingest.worker.status().unannounced == 1)
        await asyncio.sleep(0.1)
        assert not harness.paths
        blobs.open.set()
        await until(lambda: harness.paths)


async def test_one_cameras_stuck_photo_does_not_hold_another_camera(
    harness: IngestHarness, blobs: FakeBlobs
) -> None:
    stuck = asyncio.Event()

    async def store(spooled: SpooledFile) -> None:
        if spooled.blob.sha256 == sha256(jpeg("stuck")).hexdigest():
            await stuck.wait()
        await FakeBlobs._store(blobs, spooled)

    blobs._store = store  # type: ignore[method-assign]
    (harness.root / "door").mkdir()
    async with harness.running():
        await until(lambda: harness.idle)
        harness.drop("door/stuck.jpg", jpeg("stuck"))
        harness.drop("door/next.jpg", jpeg("next"))
        harness.drop("yard/one.jpg", jpeg("one"))
        await until(lambda: harness.paths == ["yard/one.jpg"])
        stuck.set()
        await until(lambda: len(harness.paths) == 3)
    assert harness.paths == ["yard/one.jpg", "door/stuck.jpg", "door/next.jpg"]


async def test_a_file_overwritten_while_it_is_stored_is_taken_as_it_became(
    harness: IngestHarness, blobs: FakeBlobs
) -> None:
    def overwrite() -> None:
        blobs.before = lambda: None
        (harness.root / "door/latest.jpg").write_bytes(jpeg("second"))

    blobs.before = overwrite
    async with harness.running():
        harness.drop("door/latest.jpg", jpeg("first"))
        await until(lambda: harness.idle and harness.paths)
    (media,) = harness.bus.media
    assert await content_of(blobs, media.sha256) == jpeg("second")


@pytest.mark.parametrize("second", ["second", "second, and longer", ""])
async def test_a_file_overwritten_while_it_is_copied_leaves_no_blob_behind(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    copy, copied = SpooledFile.copy, list[str]()

    def overwriting(spooled: SpooledFile, source: BinaryIO, most: int | None = None) -> None:
        copy(spooled, source, most)
        copied.append(spooled.blob.sha256)
        if len(copied) == 1:
            (harness.root / "door/latest.jpg").write_bytes(jpeg(second))

    monkeypatch.setattr(SpooledFile, "copy", overwriting)
    async with harness.running():
        harness.drop("door/latest.jpg", jpeg("first"))
        await until(lambda: harness.idle and harness.paths)
    assert copied[0] == sha256(jpeg("first")).hexdigest()
    assert [name async for name in harness.blobs.list()] == [sha256(jpeg(second)).hexdigest()]


async def test_what_is_rejected_is_no_blob(harness: IngestHarness) -> None:
    async with harness.running():
        harness.drop("door/cut.jpg", jpeg("cut")[:-2])
        await until(lambda: harness.refused)
    assert harness.refused == {"door/cut.jpg": "TRUNCATED"}
    assert [name async for name in harness.blobs.list()] == []
    assert list((harness.home / "media" / ".spool").iterdir()) == []


async def test_a_file_that_changes_in_hand_is_never_out_of_sight(
    harness: IngestHarness, blobs: FakeBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overwrite() -> None:
        blobs.before = lambda: None
        (harness.root / "door/latest.jpg").write_bytes(jpeg("second"))

    (harness.root / "door").mkdir()
    async with harness.running() as ingest:
        await until(lambda: harness.idle)
        blobs.before = overwrite
        # Only what the worker itself knows may keep it in sight.
        monkeypatch.setattr(ingest.worker._watcher.events, "put", lambda _: None)
        harness.drop("door/latest.jpg", jpeg("first"))
        ingest.worker._completion.record("door/latest.jpg", FileEventType.COMPLETE, time.monotonic())
        ingest.worker._watcher.events.wake()
        while not harness.paths:
            assert not harness.idle
            await asyncio.sleep(0)


async def test_a_time_set_after_the_copy_still_counts(harness: IngestHarness, blobs: FakeBlobs) -> None:
    def restamp() -> None:
        blobs.after = lambda: None
        os.utime(harness.root / "door/one.jpg", (1_000, 1_000))

    blobs.after = restamp
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.idle and harness.paths)
    (media,) = harness.bus.media
    assert media.captured_at.ToSeconds() == 1_000


async def test_a_file_that_goes_while_it_is_copied_is_no_error(
    harness: IngestHarness, blobs: FakeBlobs
) -> None:
    blobs.before = (harness.root / "door/one.jpg").unlink
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: not harness.idle)
        await until(lambda: harness.idle)
    assert harness.paths == []
    assert harness.refused == {}


async def test_an_unreadable_file_is_refused(harness: IngestHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("ingest_svc.examination.read_at", denied)
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.refused)
    assert harness.refused == {"door/one.jpg": "UNREADABLE"}


async def test_what_only_the_system_lacks_is_no_fault_of_the_file(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, failures = read_at, [OSError(errno.EMFILE, "Too many open files")] * 2

    def sometimes(*args: int) -> bytes:
        if failures:
            raise failures.pop()
        return read(*args)

    monkeypatch.setattr("ingest_svc.examination.read_at", sometimes)
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.paths)
    assert harness.refused == {}


async def test_a_spool_that_fails_is_no_fault_of_the_file(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the error is one that a file is refused for."""
    create, failures = Spool.create, [OSError(errno.EIO, "Input/output error")] * 2

    def sometimes(spool: Spool) -> FileIO:
        if failures:
            raise failures.pop()
        return create(spool)

    monkeypatch.setattr(Spool, "create", sometimes)
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.paths)
    assert harness.refused == {}
    assert not failures


async def test_a_stop_in_the_middle_loses_nothing(harness: IngestHarness) -> None:
    harness.bus.open.clear()
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: harness.ingest.worker.status().unannounced == 1)
    assert harness.paths == []
    harness.bus.open.set()
    async with harness.running():
        await until(lambda: harness.paths == ["door/one.jpg"])


async def test_the_status_is_never_idle_while_something_seen_is_unannounced(harness: IngestHarness) -> None:
    """Looked at in every step of the event loop."""
    seen = set[str]()
    async with harness.running() as ingest:
        events = ingest.worker._watcher.events
        put = events.put

        def put_and_note(event: FileEvent) -> None:
            put(event)
            if isinstance(event.type, FileEventType):
                seen.add(event.path)

        events.put = put_and_note  # type: ignore[method-assign]
        (harness.root / "door").mkdir()
        deadline = time.monotonic() + 90
        for index in range(1, 61):
            if index % 3:
                harness.drop(f"door{index % 7}/{index}.jpg", jpeg(str(index)))
            else:
                (harness.root / "door" / f"{index}.jpg").write_bytes(jpeg(str(index)))
            while index % 4 == 0 and not (harness.idle and len(set(harness.paths)) == index):
                noted, idle = set(seen), harness.idle
                assert not idle or noted <= set(harness.paths)
                assert time.monotonic() < deadline
                await asyncio.sleep(0)
            assert index % 4 or seen <= set(harness.paths)
    assert len(seen) == 60


async def test_facts_of_a_line_keep_their_order_and_lines_do_not_wait() -> None:
    published: list[str] = []

    async def publish(facts: list[Fact], _: list[Span]) -> None:
        published.extend(fact.file.path for fact in facts if fact.file)

    announcer = Announcer(publish)
    gates = {name: asyncio.Event() for name in ("a1", "a2", "b1")}

    async def work(name: str) -> Fact:
        await gates[name].wait()
        return RejectedFile("", Fingerprint(name), OUTSIDE_LINK, datetime.now(UTC))

    for name in gates:
        announcer.submit(name[0], work(name))
    running = asyncio.create_task(announcer.run())
    gates["a2"].set()
    gates["b1"].set()
    await until(lambda: published == ["b1"])
    assert announcer.pending == 2
    gates["a1"].set()
    await until(lambda: published == ["b1", "a1", "a2"])
    assert announcer.pending == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_of_many_at_once_the_first_goes_out_at_once_and_the_others_in_few_requests() -> None:
    requests: list[int] = []

    async def publish(facts: list[Fact], _: list[Span]) -> None:
        requests.append(len(facts))

    announcer = Announcer(publish)
    turns = [asyncio.Event() for _ in range(BACKLOG + 8)]

    async def work(turn: asyncio.Event) -> Fact:
        await turn.wait()
        return RejectedFile("", Fingerprint("a"), OUTSIDE_LINK, datetime.now(UTC))

    for turn in turns:
        announcer.submit("a", work(turn))
    running = asyncio.create_task(announcer.run())
    turns[0].set()
    await until(lambda: requests == [1])
    for turn in turns[1:]:
        turn.set()
        await asyncio.sleep(0)
    await until(lambda: announcer.pending == 0)
    assert sum(requests) == len(turns)
    assert len(requests) < 10
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_bug_ends_the_loop_instead_of_being_waited_out() -> None:
    async def publish(_: list[Fact], __: list[Span]) -> None:
        raise Internal("no such topic", "INTERNAL")

    async def work() -> Fact:
        return RejectedFile("", Fingerprint("a"), OUTSIDE_LINK, datetime.now(UTC))

    announcer = Announcer(publish)
    announcement = announcer.submit("a", work())
    with pytest.raises(Internal):
        await asyncio.wait_for(announcer.run(), 90)
    assert announcement.done.cancelled()
