"""SIGKILL at every step of a file that arrives by FTP."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.receiving.ftp.camera_uploads import EXPIRE_SECONDS, HIDDEN_FOLDER, CameraUploads
from ingest_svc.watching.ignored_names import IgnoredNames
from tests.support.ftp_upload_steps import CONTENT

LEAST_STEPS = 15


def test_what_got_226_is_never_lost_and_nothing_is_half_there(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.ftp_upload_steps", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    outcomes = ended.stdout.split()
    assert outcomes == ["killed"] * (len(outcomes) - 1) + ["226"]
    assert len(outcomes) > LEAST_STEPS
    kinds = set[tuple[bool, bool]]()
    for step in range(1, len(outcomes) + 1):
        root = tmp_path / str(step)
        folder = root / "porch"
        seen = [file for file in folder.rglob("*.jpg") if HIDDEN_FOLDER not in file.parts]
        # What the watcher sees is whole, also if the camera was not told.
        assert [file.read_bytes() for file in seen] in ([], [CONTENT])
        if (root / "told").exists():
            assert seen == [folder / "2026" / "a.jpg"]
        unfinished = folder / HIDDEN_FOLDER
        kinds.add((bool(seen), unfinished.is_dir() and any(unfinished.iterdir())))
        uploads = CameraUploads(CamerasRoot(root), IgnoredNames(), 10**6, lambda: "")
        # A camera that was not told sends it again.
        upload = uploads.start("porch", "/2026/a.jpg")
        upload.write(CONTENT[:1000])
        # What has arrived is not written to again, even if the kill has left it two names.
        assert all(file.read_bytes() == CONTENT for file in seen)
        upload.write(CONTENT[1000:])
        upload.keep()
        assert CONTENT in [file.read_bytes() for file in (folder / "2026").iterdir()]
        uploads.expire(time.time() + 2 * EXPIRE_SECONDS)
        assert list(unfinished.iterdir()) == []
    assert kinds == {(False, False), (False, True), (True, True), (True, False)}


def test_a_file_is_durable_before_it_has_its_name_and_its_name_before_the_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[str]()
    fsync, link = os.fsync, os.link

    def syncing(descriptor: int) -> None:
        calls.append("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")
        fsync(descriptor)

    def linking(*arguments: str, **folders: int) -> None:
        calls.append("link")
        link(*arguments, **folders)  # type: ignore[arg-type]

    uploads = CameraUploads(CamerasRoot(tmp_path), IgnoredNames(), 10**6, lambda: "")
    upload = uploads.start("porch", "/a.jpg")
    upload.write(CONTENT)
    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "link", linking)
    upload.keep()
    assert calls == ["file", "link", "folder"]
