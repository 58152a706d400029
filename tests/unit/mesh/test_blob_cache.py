"""Copies of blobs: bounded, shared by processes, never taken from whoever holds one."""

import io
import os
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from mesh.blobs.cache import BlobCache, HeldCopy
from mesh.blobs.spool import SpooledFile

ROOT = Path(__file__).parents[3]
SIZE = 1000
MOST = 20 * SIZE
HELD_BY_ANOTHER = """
import sys, time
from pathlib import Path
from mesh.blobs.cache import BlobCache
held = BlobCache(Path(sys.argv[1]), 1).hold(sys.argv[2])
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    return BlobCache(tmp_path / "cache", MOST)


def add(cache: BlobCache, number: int, size: int = SIZE) -> HeldCopy:
    content = str(number).encode().ljust(size, b".")

    async def never(_: SpooledFile) -> None: ...

    spooled = SpooledFile(cache.make_spool, never)
    spooled.copy(io.BytesIO(content))
    held = cache.add(spooled)
    if spooled.close():
        spooled.discard()
    assert held.path.read_bytes() == content
    return held


def name(number: int, size: int = SIZE) -> str:
    return sha256(str(number).encode().ljust(size, b".")).hexdigest()


def total(cache: BlobCache) -> int:
    return sum(path.stat().st_size for path in cache._folder.rglob("*") if path.is_file())


def has(cache: BlobCache, number: int) -> bool:
    held = cache.hold(name(number))
    if held is not None:
        held.release()
    return held is not None


def test_the_bound_holds_and_what_was_not_used_for_longest_goes(cache: BlobCache) -> None:
    for number in range(100):
        add(cache, number).release()
        assert total(cache) <= MOST
        assert has(cache, 0)  # used again and again
    assert not has(cache, 50)
    assert has(cache, 99)
    assert total(cache) > MOST / 2


def test_several_that_share_a_folder_keep_the_bound_but_for_their_margins(tmp_path: Path) -> None:
    caches = [BlobCache(tmp_path / "cache", MOST) for _ in range(4)]
    for number in range(200):
        add(caches[number % 4], number).release()
        assert total(caches[0]) <= MOST * (1 + 4 / 16)


def test_what_is_held_stays_however_much_it_is(cache: BlobCache) -> None:
    held = [add(cache, number) for number in range(40)]
    assert cache.overfull
    assert total(cache) == 40 * SIZE
    for one in held:
        one.release()
    cache.make_room(0)
    assert not cache.overfull
    assert total(cache) <= MOST


def test_what_another_process_holds_stays_until_it_dies(cache: BlobCache) -> None:
    add(cache, 0).release()
    process = subprocess.Popen(
        [sys.executable, "-c", HELD_BY_ANOTHER, str(cache._folder), name(0)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        for number in range(1, 50):
            add(cache, number).release()
        assert has(cache, 0)
        os.utime(cache._path(name(0)), (1, 1))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout
        process.stdout.close()
    for number in range(50, 100):
        add(cache, number).release()
    assert not has(cache, 0)


def test_one_that_is_there_already_is_not_replaced(cache: BlobCache) -> None:
    """Whoever holds it has told its path to others."""
    first = add(cache, 1)
    inode = first.path.stat().st_ino
    second = add(cache, 1)
    assert second.path.stat().st_ino == inode
    first.release()
    cache.remove(name(1))
    assert second.path.exists()
    second.release()
    cache.remove(name(1))
    assert not second.path.exists()
    cache.remove(name(1))


def test_what_lost_its_name_before_it_was_locked_is_not_held(
    cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    add(cache, 1).release()
    flock = fcntl.flock

    def too_late(file: io.FileIO, how: int) -> None:
        Path(str(file.name)).unlink(missing_ok=True)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", too_late)
    assert cache.hold(name(1)) is None


def test_only_its_owner_may_look_into_it(cache: BlobCache) -> None:
    add(cache, 1).release()
    assert cache._folder.stat().st_mode & 0o777 == 0o700
