"""A class data archive for Kafka: its classes, loaded and verified in advance, which saves 3 s of CPU at each
start.

The Java runtime of the wheel has no archive, so the first start makes one in the cache: it starts and stops a
broker in a temporary folder to record which classes are used.
"""

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
from mesh.file_lock import try_lock
from mesh.ports import free_port
from mesh.problems import Problem
from mesh.processes.child_process import run_command
from mesh.processes.supervisor import open_child

log = structlog.get_logger(__name__)

DUMP_SECONDS = 180.0
TRAINING = "training-"
UNUSED_SECONDS = 30 * 24 * 3600.0
RETRY_SECONDS = 24 * 3600.0


async def class_archive(java: Java, cache: Path) -> tuple[str, ...]:
    """Returns the options with which Java uses the archive, and makes it if it is missing (12 s).

    Returns no options while another process makes the archive, if this Java could not make one within the
    last day, or if the cache is not writable.
    """
    # Another Java, or the same one installed again, needs another archive.
    facts = f"{java.program} {java.program.stat().st_mtime_ns} {java.jars}"
    archive = cache / f"kafka-{hashlib.sha256(facts.encode()).hexdigest()[:16]}.jsa"
    with _exclusive(cache / "archive.lock") as exclusive:
        if exclusive and not _made_or_tried(archive):
            await _make(archive, java)
    with suppress(FileNotFoundError):
        if archive.stat().st_size:
            with suppress(OSError):  # another user's
                os.utime(archive)
            # Verified at every start (50 ms), because a damaged page would crash every start.
            return (f"-XX:SharedArchiveFile={archive}", "-XX:+VerifySharedSpaces")
    return ()


def _made_or_tried(archive: Path) -> bool:
    """An empty file means that the archive could not be made at the file's time."""
    try:
        found = archive.stat()
    except FileNotFoundError:
        return False
    return bool(found.st_size) or time.time() - found.st_mtime < RETRY_SECONDS


async def _make(archive: Path, java: Java) -> None:
    log.info("preparing Kafka, once", cache=str(archive.parent))
    _remove_unused(archive.parent)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=TRAINING, ignore_cleanup_errors=True) as name:
        made = Path(name) / "made.jsa"
        try:
            await _train(java, Path(name))
            classes = f"-XX:SharedClassListFile={name}/classes"
            dump = ("-Xshare:dump", classes, f"-XX:SharedArchiveFile={made}")
            await run_command(java.command(*dump), seconds=DUMP_SECONDS)
        except Problem as problem:
            # Kafka only starts more slowly. The empty file prevents another attempt at the next start.
            log.warning("class archive not made, Kafka starts without it", problem=problem.message)
            made.write_bytes(b"")
        with made.open("rb") as file:
            os.fsync(file.fileno())
        made.replace(archive)
        sync_folder(archive.parent)


def _remove_unused(cache: Path) -> None:
    """Removes what a killed training has left, and archives (65 MB each) that were not used for 30 days.

    Their number is not limited, because several checkouts, each with its own Java, may share one cache.
    """
    for left in cache.glob(f"{TRAINING}*"):
        shutil.rmtree(left, ignore_errors=True)
    for archive in cache.glob("kafka-*.jsa"):
        if time.time() - archive.stat().st_mtime > UNUSED_SECONDS:
            archive.unlink()


async def _train(java: Java, folder: Path) -> None:
    """Writes the list of classes that a broker loads to `<folder>/classes`."""
    await install(folder / "kafka", java)
    listing = (f"-XX:DumpLoadedClassList={folder}/classes",)
    broker = Broker(folder / "kafka", java, "127.0.0.1", free_port("127.0.0.1"), listing)
    async with open_child(broker.child_spec(folder)):
        pass


@contextmanager
def _exclusive(lock: Path) -> Iterator[bool]:
    """Yields False if another process has the lock, or the cache is not writable."""
    with ExitStack() as stack:
        try:
            exclusive = try_lock(stack.enter_context(lock.open("a")))
        except OSError:
            exclusive = False
        yield exclusive
