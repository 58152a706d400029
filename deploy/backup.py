"""`lares backup`: adds a backup of a home with an embedded PostgreSQL to a folder of backups.

    media/ab/abcdef...     blobs of all backups, by their digests; they are copied once
    20261128T034500Z/      one backup; a folder with this name is complete
        database.dump      PostgreSQL's, in its custom format
        blobs              the blobs that there were: digest and size, one a line
        admin.key, tls/    as in the home
        manifest.json      size and SHA-256 of the files above

The database comes first: whatever it refers to was durable before, and originals are never deleted. Kafka is
not part of it; see store_svc.restored.
"""

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from deploy.embedded.home import require_restored
from deploy.embedded.postgres import run_client, using_postgres
from deploy.mesh_factory import EMBEDDED
from mesh.artifacts import sha256_of
from mesh.blobs import FileBlobs
from mesh.blobs.factory import blob_folder
from mesh.config import Config
from mesh.durable_files import sync_folder, write_private
from mesh.file_lock import try_lock
from mesh.problems import Conflict, Denied, Invalid

DUMP, BLOBS, MANIFEST = "database.dump", "blobs", "manifest.json"
MEDIA = "media"
# Of the home: what Lares has made once and cannot make again.
KEPT = ("admin.key", "tls")
CHUNK = 1024 * 1024


async def back_up(config: Config, folder: Path) -> Sequence[str]:
    """Prints where the backup is. Returns the digests of damaged blobs, which it lacks.

    Raises Invalid BAD_SETTING, NO_HOME, BAD_FOLDER, Conflict BACKUP_RUNS, Denied FOLDER_NOT_WRITABLE,
    BACKUP_FAILED, Unavailable. Then there is no new backup, but the next one copies less.
    """
    require_embedded(config, "back up the database with its own tools")
    home, folder = config.home.resolve(), folder.resolve()
    require_restored(home)
    if not (home / "postgres").is_dir():
        raise Invalid(f"{home} has no database: Lares was never started on it", "NO_HOME")
    blobs = None if config.blobs_url.startswith("s3://") else blob_folder(config).resolve()
    for used in (home, blobs):
        if used and folder.is_relative_to(used):
            raise Invalid(f"{folder} is in {used}, which would be lost with it", "BAD_FOLDER")
    with _only_writer(folder):
        new = folder / ".new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        async with using_postgres(home):
            await run_client(home, "pg_dump", "--format=custom", f"--file={new / DUMP}")
        damaged: list[str] = []
        if blobs:
            damaged = await _copy_blobs(blobs, folder / MEDIA, new / BLOBS)
        else:
            print("the blobs are in a bucket: copy it now, after the database (docs/deploy.md)")
        done = await asyncio.to_thread(_finish, home, new)
    print(f"backup {done.name} in {folder}: `lares restore {folder} --home NEW` makes a home from it")
    return damaged


def require_embedded(config: Config, instead: str) -> None:
    """Raises Invalid BAD_SETTING for a database of the user's own."""
    if config.database_url != EMBEDDED:
        raise Invalid(f"LARES_DATABASE_URL is not `embedded:`: {instead} (docs/deploy.md)", "BAD_SETTING")


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a")
    except OSError as error:
        raise Denied(f"cannot write to {folder}: {error.strerror}", "FOLDER_NOT_WRITABLE") from None
    with lock:
        if not try_lock(lock):
            raise Conflict(f"another backup to {folder} is running", "BACKUP_RUNS")
        try:
            yield
        except OSError as error:
            raise Denied(f"the backup to {folder} failed: {error}", "BACKUP_FAILED") from None


async def _copy_blobs(source: Path, target: Path, listing: Path) -> list[str]:
    """Copies the blobs that `target` lacks, and lists all of them. Returns the damaged ones."""
    blobs = FileBlobs(source)
    damaged: list[str] = []
    try:
        with listing.open("w") as lines:
            async for sha256 in blobs.list():
                try:
                    size = await asyncio.to_thread(copy_blob, source, target, sha256)
                except FileNotFoundError:
                    continue  # a rendition that has been deleted meanwhile; it is made again
                except DamagedBlob:
                    damaged.append(sha256)
                    continue
                lines.write(f"{sha256} {size}\n")
    finally:
        blobs.close()
    return damaged


class DamagedBlob(Exception):
    """The content does not have the digest that it is named by."""


def copy_blob(source: Path, target: Path, sha256: str) -> int:
    """Returns its size. A blob that is there is not copied again: a copy gets its name when it is complete.
    Raises FileNotFoundError, DamagedBlob."""
    path = Path(sha256[:2], sha256)
    state = (source / path).stat()
    copy = target / path
    if copy.exists() and copy.stat().st_size == state.st_size:
        return state.st_size
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = target / ".part"
    if copy_file(source / path, partial) != sha256:
        partial.unlink()
        raise DamagedBlob
    # The time of its last put, by which a store knows what it may delete.
    os.utime(partial, ns=(state.st_atime_ns, state.st_mtime_ns))
    partial.replace(copy)
    return state.st_size


def copy_file(source: Path, target: Path) -> str:
    """Copies a file, readable by its owner only, and returns its SHA-256."""
    digest = hashlib.sha256()
    with (
        source.open("rb") as read,
        open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out,
    ):
        while piece := read.read(CHUNK):
            digest.update(piece)
            out.write(piece)
    return digest.hexdigest()


def _finish(home: Path, new: Path) -> Path:
    """Adds the home's own files and the manifest, makes everything durable, and gives the backup its name."""
    for name in KEPT:
        files = [home / name] if (home / name).is_file() else sorted((home / name).glob("*"))
        for file in files:
            copy = new / file.relative_to(home)
            copy.parent.mkdir(mode=0o700, exist_ok=True)
            copy_file(file, copy)
    files = sorted(path for path in new.rglob("*") if path.is_file())
    manifest = {
        str(path.relative_to(new)): {"size": path.stat().st_size, "sha256": sha256_of(path)} for path in files
    }
    write_private(new / MANIFEST, json.dumps(manifest, indent=1))
    # All of the copies at once: a flush for each of a thousand blobs takes seconds.
    os.sync()
    done = new.with_name(datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"))
    new.rename(done)
    sync_folder(done.parent)
    return done
