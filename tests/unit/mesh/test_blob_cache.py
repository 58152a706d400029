"""The cache of copies: it is bounded, processes share it, and held copies are not removed."""

import fcntl
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


def test_the_least_recently_used_copies_are_removed_at_the_bound(cache: BlobCache) -> None:
    for number in range(100):
        add(cache, number).release()
        assert total(cache) <= MOST
        assert has(cache, 0)  # used again and again
    assert not has(cache, 50)
    assert has(cache, 99)
    assert total(cache) > MOST / 2


def test_caches_that_share_a_folder_exceed_the_bound_only_by_their_margins(tmp_path: Path) -> None:
    caches = [BlobCache(tmp_path / "cache", MOST) for _ in range(4)]
    for number in range(200):
        add(caches[number % 4], number).release()
        assert total(caches[0]) <= MOST * (1 + 4 / 16)


def test_held_copies_are_not_removed_even_beyond_the_bound(cache: BlobCache) -> None:
    held = [add(cache, number) for number in range(40)]
    assert cache.overfull
    assert total(cache) == 40 * SIZE
    for one in held:
        one.release()
    cache.make_room(0)
    assert not cache.overfull
    assert total(cache) <= MOST


def test_a_copy_that_another_process_holds_is_not_removed_before_it_dies(cache: BlobCache) -> None:
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


def test_an_existing_copy_is_not_replaced(cache: BlobCache) -> None:
    """The path of a held copy may be in use elsewhere."""
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


def test_a_copy_that_is_removed_before_it_is_locked_is_not_held(
    cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(cache, 1).release()
    flock = fcntl.flock

    def too_late(file: io.FileIO, how: int) -> None:
        Path(str(file.name)).unlink(missing_ok=True)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", too_late)
    assert cache.hold(name(1)) is None


def test_only_its_owner_may_read_the_cache(cache: BlobCache) -> None:
    add(cache, 1).release()
    assert cache._folder.stat().st_mode & 0o777 == 0o700
