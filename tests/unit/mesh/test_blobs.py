import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.blobs import Blobs, open_blobs
from mesh.problems import Conflict, Invalid

CONTENT = b"a photo" * 100_000
NAME = hashlib.sha256(CONTENT).hexdigest()
ROOT = Path(__file__).parents[3]
KILLED_WHILE_COPYING = """
import asyncio, os, pathlib, signal, stat, sys
from mesh.blobs import open_blobs
os.fsync = lambda file: stat.S_ISREG(os.fstat(file).st_mode) and os.kill(os.getpid(), signal.SIGKILL)
home, source = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[3])
asyncio.run(open_blobs("", home).put(sys.argv[2], source, source.read_bytes()))
"""


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[Blobs]:
    opened = open_blobs("", tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(CONTENT)
    return path


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_what_is_put_is_read(blobs: Blobs, source: Path) -> None:
    await blobs.put(NAME, source, CONTENT)
    await blobs.put(NAME, source, CONTENT)
    assert blobs.path(NAME).read_bytes() == CONTENT
    assert source.exists()


async def test_a_file_that_changed_meanwhile_is_refused(blobs: Blobs, source: Path, tmp_path: Path) -> None:
    source.write_bytes(b"another photo")
    with pytest.raises(Conflict) as changed:
        await blobs.put(NAME, source, CONTENT)
    assert changed.value.reason == "CONTENT_CHANGED"
    assert not blobs.path(NAME).exists()
    assert files(tmp_path / "media") == []


async def test_a_file_that_went_away_leaves_no_trace(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await blobs.put(NAME, tmp_path / "gone.jpg", CONTENT)
    assert files(tmp_path / "media") == []


async def test_a_kill_leaves_nothing_that_stays(tmp_path: Path, source: Path) -> None:
    command = [sys.executable, "-c", KILLED_WHILE_COPYING, str(tmp_path), NAME, str(source)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert len(files(tmp_path / "media")) == 1
    blobs = open_blobs("", tmp_path)
    await blobs.put(NAME, source, CONTENT)
    blobs.close()
    assert files(tmp_path / "media") == [blobs.path(NAME)]


async def test_what_a_killed_process_put_is_made_durable(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been killed right after the renaming."""
    synced: list[Path] = []
    monkeypatch.setattr("mesh.blobs.sync_folder", synced.append)
    for _ in range(2):
        blobs = open_blobs("", tmp_path)
        await blobs.put(NAME, source, CONTENT)
        await blobs.put(NAME, source, CONTENT)
        blobs.close()
    shelf = blobs.path(NAME).parent
    assert synced == [shelf, shelf.parent, shelf] * 2


def test_a_folder_by_url(tmp_path: Path) -> None:
    blobs = open_blobs(f"file://{tmp_path}/a%20b", Path("/nowhere"))
    assert blobs.path("abcd") == tmp_path / "a b" / "ab" / "abcd"
    blobs.close()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Invalid, match=rf"LARES_BLOBS_URL: cannot make {tmp_path}/file/x: Not a directory"):
        open_blobs(f"file://{tmp_path}/file/x", Path("/nowhere"))


@pytest.mark.parametrize("shared", [CONTENT, b"another photo", CONTENT + b"!"])
async def test_a_file_system_that_shares_extents_is_not_trusted_either(
    blobs: Blobs, source: Path, monkeypatch: pytest.MonkeyPatch, shared: bytes
) -> None:
    """`shared` is what the file holds by the time that its extents are shared."""
    monkeypatch.setattr(
        "mesh.blobs.fcntl.ioctl", lambda target, *_: os.write(target, shared) and os.lseek(target, 0, 0)
    )
    if shared == CONTENT:
        await blobs.put(NAME, source, CONTENT)
        assert blobs.path(NAME).read_bytes() == CONTENT
    else:
        with pytest.raises(Conflict):
            await blobs.put(NAME, source, CONTENT)
        assert list(blobs.path(NAME).parent.iterdir()) == []
