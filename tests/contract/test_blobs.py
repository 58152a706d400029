"""What every place for blobs must do: a folder, and a bucket of a real S3 server."""

import asyncio
import hashlib
import io
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from mesh.blobs import Blob, Blobs, open_blobs
from mesh.config import Config, load_config
from mesh.problems import Conflict, Invalid, NotFound
from tests.support.blobs import content_of
from tests.support.s3 import S3

ROOT = Path(__file__).parents[2]
CONTENT = os.urandom(700_000)  # some buffers long
# Long enough for an S3 server to see that one thing was put after another, which it tells in whole seconds.
APART_SECONDS = 2.2
# Through an S3 server on this machine 4 GiB take minutes.
MEMORY_BYTES = {"file": 4 * 2**30, "s3": int(os.environ.get("BLOB_TEST_S3_BYTES", 2**28 + 1))}


@dataclass(frozen=True)
class Place:
    """`settings` of whoever uses it; `spool` lies on this disk in either case."""

    settings: dict[str, str]
    spool: Path

    @property
    def config(self) -> Config:
        return load_config(**{name.removeprefix("LARES_").lower(): v for name, v in self.settings.items()})

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Blobs]:
        """As a process of its own would."""
        blobs = await open_blobs(self.config)
        await blobs.prepare()
        try:
            yield blobs
        finally:
            blobs.close()

    @asynccontextmanager
    async def steps(self) -> AsyncIterator["Steps"]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LARES_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.support.blob_steps"),
            cwd=ROOT,
            env=environment | self.settings | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT}/proto/gen"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            yield Steps(process)
        finally:
            process.kill()
            await process.wait()


class Steps:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def begin(self, operation: str, what: str, before: int, sent: signal.Signals) -> int:
        """Returns the process's id."""
        assert self._process.stdin
        self._process.stdin.write(f"{operation} {what} {before} {int(sent)}\n".encode())
        return int(await self.said())

    async def said(self) -> str:
        assert self._process.stdout
        return (await asyncio.wait_for(self._process.stdout.readline(), 90)).decode().strip()


@pytest.fixture(params=["file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    home = {"LARES_HOME": str(tmp_path / "home"), "LARES_CACHE": str(tmp_path / "cache")}
    if request.param == "file":
        folder = tmp_path / "a folder"
        return Place(home | {"LARES_BLOBS_URL": f"file://{tmp_path}/a%20folder"}, folder / ".spool")
    s3: S3 = request.getfixturevalue("s3")
    url = s3.url("lares", f"test/{uuid4().hex}")
    return Place(home | {"LARES_BLOBS_URL": url}, tmp_path / "cache" / "blobs" / ".spool")


@pytest.fixture
async def blobs(place: Place) -> AsyncIterator[Blobs]:
    async with place.open() as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(CONTENT)
    return path


def blob_of(content: bytes) -> Blob:
    return Blob(hashlib.sha256(content).hexdigest(), len(content))


async def names(blobs: Blobs) -> list[str]:
    return sorted([name async for name in blobs.list()])


async def in_chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 65_536):
        yield content[start : start + 65_536]


@pytest.mark.parametrize("content", [b"", b"a", CONTENT, CONTENT * 9])
@pytest.mark.parametrize("kind", ["path", "stream", "chunks"])
async def test_what_is_put_is_read(
    place: Place, blobs: Blobs, source: Path, content: bytes, kind: str
) -> None:
    source.write_bytes(content)
    sources = {"path": source, "stream": io.BytesIO(content), "chunks": in_chunks(content)}
    blob = await blobs.put(sources[kind])  # type: ignore[arg-type]
    assert blob == blob_of(content)
    async with place.open() as others:
        assert await others.size(blob.sha256) == len(content)
        assert await content_of(others, blob.sha256) == content
        async with others.local(blob.sha256) as path:
            assert path.read_bytes() == content
        assert await names(others) == [blob.sha256]
    assert list(place.spool.iterdir()) == []
    assert source.exists()


async def test_ranges(blobs: Blobs) -> None:
    content = CONTENT * 4
    name = (await blobs.put(io.BytesIO(content))).sha256
    middle = 2**20
    for start, end in [(0, 0), (0, 1), (5, 5), (middle - 3, middle + 3), (7, len(content))]:
        pieces = [piece async for piece in blobs.open_range(name, start, end)]
        assert b"".join(pieces) == content[start:end]
        assert all(len(piece) <= 2**20 for piece in pieces)
    for start, end in [(0, len(content) + 1), (-1, 3), (4, 3)]:
        with pytest.raises(Invalid):
            await anext(blobs.open_range(name, start, end))


async def test_what_is_not_there_is_not_found(blobs: Blobs) -> None:
    name = blob_of(b"nobody put this").sha256
    for work in (blobs.size(name), anext(blobs.open_range(name, 0, 0), None), hold(blobs, name)):
        with pytest.raises(NotFound) as problem:
            await work
        assert problem.value.reason == "BLOB_NOT_FOUND"
    assert await blobs.delete(name, datetime.now(UTC)) is False
    assert await names(blobs) == []


async def hold(blobs: Blobs, name: str) -> None:
    async with blobs.local(name):
        pass


@pytest.mark.parametrize("expect", [blob_of(b"another"), Blob(blob_of(CONTENT).sha256, 1)])
async def test_content_that_is_not_what_was_expected_is_refused(
    place: Place, blobs: Blobs, source: Path, expect: Blob
) -> None:
    with pytest.raises(Conflict) as problem:
        await blobs.put(source, expect)
    assert problem.value.reason == "CONTENT_CHANGED"
    assert await names(blobs) == []
    assert list(place.spool.iterdir()) == []
    assert await blobs.put(source, blob_of(CONTENT)) == blob_of(CONTENT)


async def test_what_is_spooled_can_be_looked_at_and_dropped(place: Place, blobs: Blobs) -> None:
    async with blobs.spooled() as spooled:
        await asyncio.to_thread(spooled.write, CONTENT[:10])
        await asyncio.to_thread(spooled.copy, io.BytesIO(CONTENT[10:]), 90)
        assert spooled.blob == blob_of(CONTENT[:100])
        assert await asyncio.to_thread(spooled.read, 5, 20) == CONTENT[5:25]
        assert await asyncio.to_thread(spooled.read, 90, 20) == CONTENT[90:100]
    assert list(place.spool.iterdir()) == []
    assert await names(blobs) == []
    with pytest.raises(ValueError, match="closed"):
        spooled.write(b"more")


async def test_a_source_that_goes_away_leaves_no_trace(place: Place, blobs: Blobs, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT
        raise OSError("unplugged")

    with pytest.raises(FileNotFoundError):
        await blobs.put(tmp_path / "gone.jpg")
    with pytest.raises(OSError, match="unplugged"):
        await blobs.put(broken())
    assert await names(blobs) == []
    assert list(place.spool.iterdir()) == []


async def test_whoever_is_cancelled_leaves_nothing_in_the_spool(place: Place, blobs: Blobs) -> None:
    reading, wait = asyncio.Event(), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield CONTENT
        reading.set()
        await wait.wait()

    putting = asyncio.create_task(blobs.put(endless()))
    await reading.wait()
    putting.cancel()
    await asyncio.wait([putting])
    assert putting.cancelled()
    assert list(place.spool.iterdir()) == []


async def test_many_puts_at_once(place: Place) -> None:
    contents = [os.urandom(1000) for _ in range(30)]
    async with place.open() as one, place.open() as other:
        await asyncio.gather(*(side.put(io.BytesIO(c)) for c in contents for side in (one, other, one)))
        assert await names(one) == sorted(blob_of(content).sha256 for content in contents)
        for content in contents:
            assert await content_of(other, blob_of(content).sha256) == content
    assert list(place.spool.iterdir()) == []


async def test_only_what_was_not_put_since_is_deleted(blobs: Blobs, source: Path) -> None:
    name = (await blobs.put(source)).sha256
    other = (await blobs.put(io.BytesIO(b"other"))).sha256
    before = datetime.now(UTC) - timedelta(seconds=60)
    assert await blobs.delete(name, before) is False
    await asyncio.sleep(APART_SECONDS)
    between = datetime.now(UTC)
    await blobs.put(source)  # as if it were new
    assert await blobs.delete(name, between) is False
    assert await content_of(blobs, name) == CONTENT
    assert await blobs.delete(other, between) is True
    assert await names(blobs) == [name]
    for work in (blobs.size(other), hold(blobs, other)):
        with pytest.raises(NotFound):
            await work
    assert await blobs.delete(other, between) is False


async def test_a_kill_before_any_step_of_a_put_leaves_nothing_half(place: Place, source: Path) -> None:
    source.write_bytes(CONTENT * 9)  # on S3, two parts
    blob = blob_of(CONTENT * 9)
    seen: set[bool] = set()

    async def check(before: int) -> None:
        async with place.open() as blobs:
            assert list(place.spool.iterdir()) == []
            seen.add(await is_whole(blobs, blob, CONTENT * 9))
            assert await blobs.put(source) == blob
            assert await is_whole(blobs, blob, CONTENT * 9)
            assert await blobs.delete(blob.sha256, datetime.now(UTC) + timedelta(hours=1))

    steps = await kill_before_each_step(place, "put", str(source), check)
    assert steps > 8
    assert seen == {True, False}


async def test_a_kill_before_any_step_of_a_deletion_leaves_nothing_half(
    place: Place, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.blobs.s3.ABANDONED_MARK_SECONDS", 0.5)
    blob, later = blob_of(CONTENT), datetime.now(UTC) + timedelta(hours=1)
    seen: set[bool] = set()
    async with place.open() as blobs:
        await blobs.put(source)

    async def check(before: int) -> None:
        async with place.open() as blobs:
            there = await is_whole(blobs, blob, CONTENT)
            seen.add(there)
            assert await blobs.delete(blob.sha256, later) is there
            assert not await is_whole(blobs, blob, CONTENT)
            assert await blobs.put(source) == blob
            assert await is_whole(blobs, blob, CONTENT)

    steps = await kill_before_each_step(place, "delete", f"{blob.sha256},{later.isoformat()}", check)
    assert steps > 3
    assert seen == {True, False}


async def kill_before_each_step(
    place: Place, operation: str, what: str, check: Callable[[int], Awaitable[None]]
) -> int:
    """Returns how many steps there are."""
    async with place.steps() as steps:
        for before in range(200):
            await steps.begin(operation, what, before, signal.SIGKILL)
            if (end := await steps.said()) == "0":
                return before
            assert end == str(-signal.SIGKILL)
            await check(before)
    raise AssertionError("it has no end")


async def is_whole(blobs: Blobs, blob: Blob, content: bytes) -> bool:
    """False where it is not there in any way."""
    try:
        assert await blobs.size(blob.sha256) == blob.size
    except NotFound:
        with pytest.raises(NotFound):
            await anext(blobs.open_range(blob.sha256, 0, 0))
        assert await names(blobs) == []
        return False
    assert await content_of(blobs, blob.sha256) == content
    async with blobs.local(blob.sha256) as path:
        assert path.read_bytes() == content
    assert await names(blobs) == [blob.sha256]
    return True


async def test_what_is_put_while_it_is_deleted_is_there_afterwards(place: Place) -> None:
    """The deletion stops before each of its steps in turn, and somebody puts the same content meanwhile."""
    contents = [os.urandom(1000) for _ in range(20)]
    overlapped = deleted = 0
    async with place.open() as blobs, place.steps() as steps:
        await asyncio.gather(*(blobs.put(io.BytesIO(content)) for content in contents))
        await asyncio.sleep(APART_SECONDS)
        older_than = datetime.now(UTC) - timedelta(seconds=0.1)
        for before, content in enumerate(contents):
            name = blob_of(content).sha256
            process = await steps.begin("delete", f"{name},{older_than.isoformat()}", before, signal.SIGSTOP)
            if (said := await steps.said()) == "0":
                break
            assert said == "stopped"
            putting = asyncio.create_task(blobs.put(io.BytesIO(content)))
            with_it, _ = await asyncio.wait([putting], timeout=0.3)
            os.kill(process, signal.SIGCONT)
            assert await steps.said() == "0"
            await asyncio.wait_for(putting, 90)
            assert await content_of(blobs, name) == content
            overlapped += 1
            deleted += not with_it
    assert overlapped > 3
    assert deleted  # one had to wait, at least


PEAK = """
import asyncio, sys
from pathlib import Path
from mesh.blobs import open_blobs
from mesh.config import load_config

def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

async def put(blobs, path):
    return (await blobs.put(Path(path))).sha256

async def get(blobs, name):
    async for _ in blobs.open_range(name, 0, await blobs.size(name)):
        pass
    async with blobs.local(name):
        pass

async def main(small, what):
    blobs = await open_blobs(load_config())
    name = await put(blobs, small)
    await get(blobs, name)
    before = peak()
    print(await put(blobs, what) if what.startswith("/") else await get(blobs, what))
    print(peak() - before)
    blobs.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak")
async def test_memory_does_not_grow_with_the_blob(place: Place, tmp_path: Path) -> None:
    """S3 takes parts of 5 MiB, of which two are under way."""
    kind = place.settings["LARES_BLOBS_URL"].partition(":")[0]
    size, most = MEMORY_BYTES[kind], {"file": 4 * 2**20, "s3": 24 * 2**20}[kind]
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(CONTENT)
    with large.open("wb") as file:
        file.truncate(size)  # of no size on the disk, until it is put

    async def peak(what: str, cache: str) -> tuple[str, int]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LARES_")}
        paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT}/proto/gen", "LARES_CACHE": str(tmp_path / cache)}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", PEAK, str(small), what),
            cwd=ROOT,
            env=environment | place.settings | paths,
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0
        name, grown = said.decode().split()
        return name, int(grown)

    name, grown = await peak(str(large), "cache")
    assert grown <= most
    _, grown = await peak(name, "another cache")
    assert grown <= most
    async with place.open() as blobs:
        assert await blobs.size(name) == size
        await blobs.delete(name, older_than=datetime.now(UTC))  # for pytest keeps its folders
