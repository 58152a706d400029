"""When a copy of a file that is overwritten again and again counts as a whole picture."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.fingerprint import Fingerprint, fingerprint
from ingest_svc.restless_files import MIN_COPIES, WATCHING_THREADS, Rest, RestlessFiles
from ingest_svc.thread_pool import ThreadPool
from ingest_svc.watching.completion import Moment, state_of
from mesh.blobs import FileBlobs, SpooledFile

FIRST, SECOND = (bytes([index]) * 60_000 for index in (1, 2))


class Snapshots:
    def __init__(self, folder: Path, threads: ThreadPool) -> None:
        (folder / "media").mkdir()
        self._writes = 0
        self._root, self._blobs = CamerasRoot(folder.resolve()), FileBlobs(folder / "media")
        self.files, self.threads = RestlessFiles(self._root, threads, threads), threads

    def write(self, content: bytes, at: int = 0) -> None:
        """Overwrites a part of the file in place."""
        file = self._root / "latest.jpg"
        with file.open("r+b" if file.exists() else "wb") as stream:
            stream.seek(at)
            stream.write(content)
        self._writes += 1  # two writes must not have the same time, as they may if they are close
        os.utime(file, ns=(self._writes, self._writes))

    @property
    def found(self) -> Fingerprint:
        file = fingerprint(self._root, "latest.jpg")
        assert file is not None
        return file

    @asynccontextmanager
    async def copy(self, seconds_ago: float = 0.0) -> AsyncIterator[tuple[Rest, SpooledFile]]:
        """A copy of the file as it is now, when it rested before."""
        async with self._blobs.spooled() as spooled:
            with (self._root / "latest.jpg").open("rb", buffering=0) as stream:
                spooled.copy(stream, 1_000_000)
            yield Rest(self.found, 10.0, time.monotonic() - seconds_ago), spooled


@pytest.fixture
async def snapshots(tmp_path: Path) -> AsyncIterator[Snapshots]:
    with closing(ThreadPool("threads", 1)) as threads:
        snapshots = Snapshots(tmp_path, threads)
        yield snapshots
        snapshots._blobs.close()


async def test_a_copy_is_whole_if_the_next_change_begins_another_picture(snapshots: Snapshots) -> None:
    snapshots.write(FIRST)
    async with snapshots.copy() as (rest, copy):
        snapshots.write(SECOND[:10_000])
        assert await snapshots.files.was_whole(rest, copy, snapshots.threads)
    async with snapshots.copy() as (rest, copy):
        snapshots.write(SECOND[10_000:], at=10_000)
        assert not await snapshots.files.was_whole(rest, copy, snapshots.threads)


async def test_a_copy_is_not_whole_if_the_file_may_have_changed_twice(snapshots: Snapshots) -> None:
    snapshots.write(FIRST)
    async with snapshots.copy(seconds_ago=11.0) as (rest, copy):
        snapshots.write(SECOND)
        assert not await snapshots.files.was_whole(rest, copy, snapshots.threads)


async def test_a_copy_of_a_file_that_does_not_change_any_more_is_left_to_others(snapshots: Snapshots) -> None:
    snapshots.write(FIRST)
    async with snapshots.copy() as (rest, copy):
        assert not await snapshots.files.was_whole(rest, copy, snapshots.threads)


async def test_pictures_with_a_common_beginning(snapshots: Snapshots) -> None:
    """How long it is shows after a few copies. A torn one has more in common with the one before."""
    common = b"\x03" * 20_000
    for index in range(MIN_COPIES):
        snapshots.write(common + bytes([index]) * 40_000)
        async with snapshots.copy() as (rest, copy):
            snapshots.write(b"\xff" * 1000, at=20_000)
            assert await snapshots.files.was_whole(rest, copy, snapshots.threads) == (index == MIN_COPIES - 1)
    async with snapshots.copy() as (rest, copy):
        snapshots.write(b"\xff", at=30_000)
        assert not await snapshots.files.was_whole(rest, copy, snapshots.threads)


async def test_what_pictures_have_in_common_is_found_out_again(
    snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a change of the camera's settings, which is in the header."""
    monkeypatch.setattr("ingest_svc.restless_files.MAX_COPIES", MIN_COPIES)
    whole = list[bool]()
    for index in range(3 * MIN_COPIES):
        header = bytes([index < MIN_COPIES]) * 20_000
        snapshots.write(header + bytes([index]) * 40_000)
        async with snapshots.copy() as (rest, copy):
            snapshots.write(b"\xff" * 1000, at=20_000)
            whole.append(await snapshots.files.was_whole(rest, copy, snapshots.threads))
    assert [at for at, is_whole in enumerate(whole, 1) if is_whole] == [4, 8, 12]


async def test_other_files_do_not_wait_while_fast_ones_are_watched(snapshots: Snapshots) -> None:
    fast, slow = (Moment((0, 0, 0), pause) for pause in (0.03, 1.0))
    async with AsyncExitStack() as stack:
        for _ in range(WATCHING_THREADS):
            await stack.enter_async_context(snapshots.files.turn(fast))
        async with snapshots.files.turn(slow):
            waiting = asyncio.create_task(stack.enter_async_context(snapshots.files.turn(fast)))
            await asyncio.sleep(0)
            assert not waiting.done()
        waiting.cancel()


async def test_a_rest_is_half_as_long_as_the_longest_pause_that_was_seen_before(snapshots: Snapshots) -> None:
    """A picture may be written for longer than a fast file is watched."""
    snapshots.write(FIRST)
    rest = snapshots.files.rest("latest.jpg", Moment(state_of(snapshots.found), 0.09))
    assert rest is not None
    assert rest.quiet == 0.045


@pytest.mark.parametrize("pause", [0.05, 1.0])
async def test_a_file_rests_while_it_does_not_change(snapshots: Snapshots, pause: float) -> None:
    snapshots.write(FIRST)
    rest = snapshots.files.rest("latest.jpg", Moment(state_of(snapshots.found), pause))
    assert rest is not None
    assert rest.file == snapshots.found
    assert snapshots.files.rest("gone.jpg", Moment(state_of(snapshots.found), pause)) is None


def test_the_moment_of_a_slow_file_may_have_passed(snapshots: Snapshots) -> None:
    snapshots.write(FIRST)
    moment = Moment(state_of(snapshots.found), 1.0)
    snapshots.write(SECOND + SECOND)
    assert snapshots.files.rest("latest.jpg", moment) is None
