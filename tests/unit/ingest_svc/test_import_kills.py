"""Processes that are killed while they import a group of photos: what is announced is durable before."""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.image_files import jpeg
from tests.support.import_steps import announced

ROOT = Path(__file__).parents[3]
# Two cameras, and a content that both have.
PHOTOS = {
    "door/1.jpg": jpeg("one"),
    "yard/1.jpg": jpeg("two"),
    "door/2.jpg": jpeg("both"),
    "yard/2.jpg": jpeg("both"),
    "door/3.jpg": jpeg("three"),
}
NEVER = 10_000


class Program:
    """tests.support.import_steps."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, home: Path, originals: str, before: int = NEVER) -> int:
        """Returns the exit status."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{home} {originals} {before} {int(signal.SIGKILL)}\n".encode())
        return int(await asyncio.wait_for(self._process.stdout.readline(), 90))


@pytest.fixture
async def program() -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.import_steps"),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT}/proto/gen"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    yield Program(process)
    process.kill()
    await process.wait()


def prepared(home: Path) -> Path:
    now = time.time()
    for place, (path, content) in enumerate(PHOTOS.items()):
        file = home / "cameras" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (now - 10 + place, now - 10 + place))
    return home


async def test_each_photo_is_flushed_renamed_and_its_folder_flushed_before_it_is_announced(
    program: Program, tmp_path: Path
) -> None:
    home = prepared(tmp_path / "home")
    assert await program.run(home, "keep") == 0
    assert require_durable(home) == len(PHOTOS)
    steps = [line.split()[0] for line in (home / "steps").read_text().splitlines()]
    # They were a group: all contents were flushed before the first file got its name.
    assert steps[: steps.index("renamed")].count("flushed") == len(PHOTOS)


@pytest.mark.parametrize("originals", ["keep", "take"])
async def test_a_kill_before_any_step_loses_nothing_and_doubles_nothing(
    program: Program, tmp_path: Path, originals: str
) -> None:
    leftovers = announcements = 0
    for before in range(NEVER):
        home = prepared(tmp_path / str(before))
        status = await program.run(home, originals, before)
        announcements += (first := require_durable(home)) > 0
        require_originals(home)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        leftovers += any((home / "media" / ".spool").iterdir())
        assert await program.run(home, originals) == 0
        require_durable(home)
        require_complete(home, originals)
        assert len(announced(home)) >= first
        shutil.rmtree(home)
    assert before > 4 * len(PHOTOS)
    assert leftovers > len(PHOTOS)
    assert announcements > 1


def require_durable(home: Path) -> int:
    """Returns how many photos were announced. Fails if one was before its content, its name, and the name of
    its folder were flushed, in this order, or if a blob is not what it is called."""
    media = home / "media"
    folders = {media.stat().st_ino: ""} | {sub.stat().st_ino: sub.name for sub in media.glob("[0-9a-f]*")}
    flushed, named, durable = set[str](), list[tuple[str, set[str]]](), set[str]()
    count = 0
    for line in (home / "steps").read_text().splitlines():
        step, *rest = line.split(maxsplit=2)
        if step == "started":  # what an earlier process may not have flushed counts for nothing
            flushed, named, durable = set(), [], set()
        elif step == "written":
            flushed.discard(rest[0])
        elif step == "folder-flushed":
            for _, unflushed in named:
                unflushed.discard(folders[int(rest[0])])
            durable |= {name for name, unflushed in named if not unflushed}
        elif step == "flushed":
            flushed.add(rest[0])
        elif step == "renamed" and rest[0] in flushed:
            named.append((rest[1], {rest[1][:2], ""}))
        elif step == "renamed":  # perhaps in place of a blob that was durable
            named, durable = [entry for entry in named if entry[0] != rest[1]], durable - {rest[1]}
        elif step == "announced":
            assert rest[0] in durable, f"{line} too early"
            count += 1
    for _, name in announced(home):
        assert sha256((media / name[:2] / name).read_bytes()).hexdigest() == name
    return count


def require_originals(home: Path) -> None:
    """Fails if the original of a photo is gone that was not announced."""
    there = [file.read_bytes() for file in (home / "cameras").rglob("*") if file.is_file()]
    names = {name for _, name in announced(home)}
    assert all(content in there or sha256(content).hexdigest() in names for content in PHOTOS.values())


def require_complete(home: Path, originals: str) -> None:
    media = [(file.path.split("/")[0], name) for file, name in announced(home)]
    for camera in ("door", "yard"):
        expected = [sha256(PHOTOS[path]).hexdigest() for path in PHOTOS if path.startswith(f"{camera}/")]
        assert [name for owner, name in dict.fromkeys(media) if owner == camera] == expected
    # A file whose removal was interrupted gets a new name, under which it is announced as the same media.
    again = [file.path for file, _ in announced(home) if "lares-taken" in file.path]
    assert len(again) <= (originals == "take")
    assert len(media) == len(PHOTOS) + len(again)
    blobs = {blob.name for blob in (home / "media").glob("[0-9a-f]*/*")}
    assert blobs == {sha256(content).hexdigest() for content in PHOTOS.values()}
    assert not list((home / "media" / ".spool").iterdir())
    left = list((home / "cameras").rglob("*.jpg"))
    assert len(left) == (len(PHOTOS) if originals == "keep" else 0)
