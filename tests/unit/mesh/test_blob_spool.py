import fcntl
from pathlib import Path
from typing import BinaryIO

import pytest

from mesh.blobs.spool import Spool


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
