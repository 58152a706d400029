"""`lares restore`: makes a home from a backup of `lares backup`."""

import asyncio
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.backup import (
    BLOBS,
    DUMP,
    KEPT,
    MANIFEST,
    MEDIA,
    DamagedBlob,
    copy_blob,
    copy_file,
    require_embedded,
)
from deploy.embedded.home import lock_home, private_folder, restore_marker
from deploy.embedded.postgres import open_postgres, run_client
from mesh.artifacts import sha256_of
from mesh.config import Config
from mesh.durable_files import sync_folder, write_private
from mesh.problems import Conflict, Invalid, NotFound
from mesh.secret import Secret
from store_svc.migration import migrate
from store_svc.restored import prepare_restored
from store_svc.schema import connector_of

# What a home may have before it is restored.
ALLOWED = {"cameras", "lost+found"}
# What a restore makes in it.
MADE = (*KEPT, MEDIA, "postgres", "run")


async def restore(config: Config, folder: Path, name: str) -> Sequence[str]:
    """Restores the backup of this name, or the newest, into a new home. Returns the digests of blobs that the
    backup lacks, or that are damaged in it.

    An interrupted restore leaves a home on which Lares does not start, and which the next restore makes anew.
    Raises Invalid BAD_SETTING, NotFound NO_BACKUP, Conflict BACKUP_DAMAGED, HOME_EXISTS, HOME_IN_USE, and
    what PostgreSQL and the migration raise.
    """
    require_embedded(config, "restore the database with its own tools")
    backup = _chosen(folder.resolve(), name)
    files = await asyncio.to_thread(_verified, backup)
    if BLOBS in files and config.blobs_url:
        raise Invalid("the backup has blobs, for which LARES_BLOBS_URL must be empty", "BAD_SETTING")
    home = config.home.resolve()
    with _new_home(home):
        for path in files:
            if Path(path).parts[0] in KEPT:
                copy = home / path
                copy.parent.mkdir(mode=0o700, exist_ok=True)
                copy_file(backup / path, copy)
        missing = await asyncio.to_thread(_restore_blobs, backup, home / MEDIA) if BLOBS in files else []
        async with open_postgres(home) as url:
            options = ["--dbname=lares", "--exit-on-error", "--single-transaction", "--no-owner"]
            await run_client(home, "pg_restore", *options, str(backup / DUMP))
            connector = connector_of(config, Secret.of(url), embedded=True)
            await migrate(connector)
            await prepare_restored(connector, new_topics=True)
        await asyncio.to_thread(os.sync)
    print(f"{home} is the home of backup {backup.name}: `lares up --home {home}` starts it")
    return missing


def _chosen(folder: Path, name: str) -> Path:
    """Raises NotFound NO_BACKUP."""
    found = sorted(path.parent for path in folder.glob(f"[0-9]*Z/{MANIFEST}"))
    wanted = [path for path in found if name in ("", path.name)]
    if not wanted:
        names = ", ".join(path.name for path in found) or "none"
        raise NotFound(f"{folder} has no backup {name}".rstrip() + f"; there are: {names}", "NO_BACKUP")
    return wanted[-1]


def _verified(backup: Path) -> Sequence[str]:
    """The paths of a backup's files. Raises Conflict BACKUP_DAMAGED if one is not as it was written."""
    try:
        manifest = json.loads((backup / MANIFEST).read_text())
        for path, wanted in manifest.items():
            if sha256_of(backup / path) != wanted["sha256"]:
                raise ValueError(f"{path} was changed")
    except (OSError, ValueError) as error:
        raise Conflict(
            f"{backup} is damaged: {error}; choose another one (--backup)", "BACKUP_DAMAGED"
        ) from None
    return list(manifest)


@contextmanager
def _new_home(home: Path) -> Iterator[None]:
    """The home is marked until the block has ended well."""
    marker = restore_marker(home)
    if not marker.exists():
        found = {path.name for path in home.iterdir()} - ALLOWED if home.exists() else set()
        if found:
            raise Conflict(f"{home} is not empty: it has {', '.join(sorted(found))}", "HOME_EXISTS")
        private_folder(home, "run")
        write_private(marker, "")
    with lock_home(home):
        for name in set(MADE) - {"run"}:
            if (home / name).is_dir():
                shutil.rmtree(home / name)
            else:
                (home / name).unlink(missing_ok=True)
        yield
        marker.unlink()
        sync_folder(home)


def _restore_blobs(backup: Path, media: Path) -> list[str]:
    missing = []
    for line in (backup / BLOBS).read_text().splitlines():
        sha256 = line.partition(" ")[0]
        try:
            copy_blob(backup.parent / MEDIA, media, sha256)
        except (OSError, DamagedBlob):
            missing.append(sha256)
    return missing
