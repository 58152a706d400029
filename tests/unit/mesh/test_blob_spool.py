"""Files that are on their way into the blobs."""

import fcntl
import hashlib
import io
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from mesh.blobs.spool import BUFFER_BYTES, Blob, Spool, SpooledFile


def test_a_file_that_another_process_writes_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "left").write_bytes(b"half")
    with Spool(tmp_path).create() as file:
        Spool(tmp_path)
        assert list(tmp_path.iterdir()) == [Path(file.name)]


def test_a_file_that_is_removed_before_it_is_locked_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, lock, cleared = Spool(tmp_path), fcntl.flock, list[str]()

    def too_late(file: BinaryIO, how: int) -> None:
        if not cleared:
            Path(file.name).unlink()
            cleared.append(file.name)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", too_late)
    with spool.create() as file:
        assert list(tmp_path.iterdir()) == [Path(file.name)]
    assert cleared


async def never(_: SpooledFile) -> None: ...


@pytest.mark.parametrize("size", [0, 5, 3 * BUFFER_BYTES + 1])
def test_what_another_process_writes_is_counted_afterwards(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    spooled = SpooledFile(lambda: Spool(tmp_path), never)
    os.pwrite(spooled.descriptor(), content, 0)
    assert spooled.blob.size == 0
    assert spooled.written() == spooled.blob == Blob(hashlib.sha256(content).hexdigest(), size)
    assert spooled.read(0, size + 1) == content
    spooled.close()
    spooled.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("size", "before", "returned"),
    [
        (0, b"", False),
        (1, b"", True),
        (BUFFER_BYTES, b"", True),
        (BUFFER_BYTES + 1, b"", False),
        (5, b"more", False),
    ],
)
@pytest.mark.parametrize("most", [None, BUFFER_BYTES + 2])
def test_content_that_fits_is_returned_as_it_was_read(
    tmp_path: Path, size: int, before: bytes, returned: bool, most: int | None
) -> None:
    content = os.urandom(size)
    spooled = SpooledFile(lambda: Spool(tmp_path), never)
    if before:
        spooled.write(before)
    whole = spooled.copy(io.BytesIO(content), most)
    assert (bytes(whole) if whole is not None else None) == (content if returned else None)
    assert spooled.blob == Blob(hashlib.sha256(before + content).hexdigest(), len(before + content))
    assert spooled.read(0, len(before) + size + 1) == before + content
    spooled.close()
    spooled.discard()
    assert list(tmp_path.iterdir()) == []
