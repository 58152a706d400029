"""Kafka's classes, loaded and checked once for all starts: 3 s of CPU less, each time.

Java's class data sharing. The wheel's runtime comes without any archive, so one is made in the cache at the
very first start: a broker in a folder of its own is started and stopped, to learn which classes it uses.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import structlog

from deploy.embedded.java import Java
from deploy.embedded.kafka_broker import Broker, install
from mesh.durable_files import sync_folder
from mesh.ports import free_port
from mesh.problems import Problem
from mesh.processes.parent_death import run_command
from mesh.processes.supervisor import open_child

log = structlog.get_logger(__name__)

DUMP_SECONDS = 180.0
TRAINING = "training-"
UNUSED_SECONDS = 30 * 24 * 3600.0
RETRY_SECONDS = 24 * 3600.0


async def class_archive(java: Java, cache: Path) -> tuple[str, ...]:
    """The options for Java that use the archive, which is made when missing (12 s). None at all where
    another process is making it just now, where this Java could not make one today, or where the cache cannot
    be written."""
    # Another Java, or the same one installed anew, needs another archive.
    facts = f"{java.program} {java.program.stat().st_mtime_ns} {java.jars}"
    archive = cache / f"kafka-{hashlib.sha256(facts.encode()).hexdigest()[:16]}.jsa"
    with _alone(cache / "archive.lock") as alone:
        if alone and not _stands(archive):
            await _make(archive, java)
    with suppress(FileNotFoundError):
        if archive.stat().st_size:
            with suppress(OSError):  # another user's
                os.utime(archive)
            # Verified at every start (50 ms): a bad page of it would be a crash at every start.
            return (f"-XX:SharedArchiveFile={archive}", "-XX:+VerifySharedSpaces")
    return ()


def _stands(archive: Path) -> bool:
    """Made, or, as an empty file says, tried not long ago."""
    try:
        found = archive.stat()
    except FileNotFoundError:
        return False
    return bool(found.st_size) or time.time() - found.st_mtime < RETRY_SECONDS


async def _make(archive: Path, java: Java) -> None:
    log.info("preparing Kafka, once", cache=str(archive.parent))
    _tidy(archive.parent)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=TRAINING, ignore_cleanup_errors=True) as name:
        made = Path(name) / "made.jsa"
        try:
            await _train(java, Path(name))
            classes = f"-XX:SharedClassListFile={name}/classes"
            dump = ("-Xshare:dump", classes, f"-XX:SharedArchiveFile={made}")
            await run_command(java.command(*dump), seconds=DUMP_SECONDS)
        except Problem as problem:
            # It only costs time; an empty file says that it was tried.
            log.warning("Kafka starts without a class archive", problem=problem.message)
            made.write_bytes(b"")
        with made.open("rb") as file:
            os.fsync(file.fileno())
        made.replace(archive)
        sync_folder(archive.parent)


def _tidy(cache: Path) -> None:
    """Removes what a killed training left, and archives (65 MB each) that nobody has used for 30 days. Not by
    their number: several checkouts, each with a Java of its own, share one cache."""
    for left in cache.glob(f"{TRAINING}*"):
        shutil.rmtree(left, ignore_errors=True)
    for archive in cache.glob("kafka-*.jsa"):
        if time.time() - archive.stat().st_mtime > UNUSED_SECONDS:
            archive.unlink()


async def _train(java: Java, folder: Path) -> None:
    await install(folder / "kafka", java)
    listing = (f"-XX:DumpLoadedClassList={folder}/classes",)
    broker = Broker(folder / "kafka", java, "127.0.0.1", free_port("127.0.0.1"), listing)
    async with open_child(broker.part(folder)):
        pass


@contextmanager
def _alone(lock: Path) -> Iterator[bool]:
    with ExitStack() as stack:
        try:
            file = stack.enter_context(lock.open("a"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held by another process, or not ours to write
            alone = False
        else:
            alone = True
        yield alone
