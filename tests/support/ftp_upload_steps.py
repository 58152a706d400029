"""Receives a file as the FTP receiver does, again and again, each time in a child that is killed a step
later: `python -m tests.support.ftp_upload_steps FOLDER`.

The cameras folder of each is FOLDER/STEP. Prints a line for each: `killed`, or `226` for the one that lived.
A file `told` says that a camera would have been told 226.
"""

import os
import signal
import sys
from itertools import count
from pathlib import Path

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.receiving.ftp.camera_uploads import CameraUploads
from ingest_svc.watching.ignored_names import IgnoredNames

CONTENT = b"\xff\xd8\xff" + b"x" * 100_000
# The calls of the operating system by which a file is received.
CALLS = ("mkdir", "open", "ftruncate", "write", "fsync", "link", "unlink", "close")


def main(folder: Path) -> None:
    for step in count(1):
        root = folder / str(step)
        root.mkdir()
        child = os.fork()
        if not child:
            _receive(root, step)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print("226" if os.WIFEXITED(status) else "killed", flush=True)
        if os.WIFEXITED(status):
            return


def _receive(root: Path, step: int) -> None:
    calls = 0

    def counted(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        setattr(os, name, call)

    uploads = CameraUploads(CamerasRoot(root), IgnoredNames(), 10**6, lambda: "")
    for name in CALLS:
        counted(name)
    upload = uploads.start("porch", "/2026/a.jpg")
    for start in range(0, len(CONTENT), 40_000):
        upload.write(CONTENT[start : start + 40_000])
    upload.keep()
    (root / "told").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
