"""Both parts under a parent that is killed by -9, at any time."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from deploy.embedded.kafka import open_kafka
from deploy.embedded.postgres import open_postgres
from mesh.processes.child_process import start_time
from tests.mesh.test_embedded_kafka import create, read, write
from tests.mesh.test_embedded_postgres import answers
from tests.support.database_connection import connected
from tests.support.parent import HELD
from tests.support.parts import CACHE
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
ANY_PORT = "127.0.0.1:0"


class Parent:
    """`tests.support.parent` on a home."""

    def __init__(self, home: Path, held: str = "") -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "proto" / "gen")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.parent", str(home), ANY_PORT, held],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
        )

    async def urls(self) -> dict[str, str]:
        """Once both parts are ready."""
        assert self.process.stdout
        line = await asyncio.wait_for(asyncio.to_thread(self.process.stdout.readline), 90)
        urls: dict[str, str] = json.loads(line)
        return urls

    @property
    def is_held(self) -> bool:
        """Whether the tool hangs that was told to."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
            return any(child.cmdline() == HELD.split() for child in children)
        except psutil.NoSuchProcess:  # one that just ended
            return False

    async def kill(self) -> None:
        """kill -9; AssertionError when a descendant outlives it."""
        births = {
            one.pid: start_time(one.pid) for one in psutil.Process(self.process.pid).children(recursive=True)
        }
        self.process.kill()
        self.process.communicate()
        await until(lambda: not any(born and start_time(pid) == born for pid, born in births.items()))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


async def test_nothing_outlives_the_parent_and_nothing_is_lost(home: Path) -> None:
    parent = Parent(home)
    urls = await parent.urls()
    await create(urls["kafka"], "kept")
    await write(urls["kafka"], "kept", b"written")
    async with connected(urls["postgres"]) as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    await parent.kill()
    async with open_postgres(home) as database, open_kafka(home, ANY_PORT, CACHE) as kafka:
        async with connected(database) as connection:
            assert await connection.fetchval("SELECT answer FROM kept") == 42
        assert await read(kafka, "kept", 1) == [b"written"]


@pytest.mark.parametrize(
    ("held", "left"),
    [
        ("postgres.before", "postgres.new-*/password"),
        ("postgres.after", "postgres.new-*/data/base"),
        ("kafka.after", "kafka.new-*/data"),
    ],
)
async def test_a_half_made_home_is_remade(home: Path, held: str, left: str) -> None:
    parent = Parent(home, held)
    await until(lambda: parent.is_held)
    await parent.kill()
    part = held.partition(".")[0]
    assert any(home.glob(left))
    assert not (home / part).exists()
    if part == "kafka":
        async with open_kafka(home, ANY_PORT, CACHE) as url:
            await create(url, "made")
    else:
        async with open_postgres(home) as url:
            assert await answers(url)
    assert not list(home.glob("*.new-*"))


async def test_two_parents_on_one_home_is_a_clear_error(home: Path) -> None:
    first = Parent(home)
    await until(lambda: (home / "run" / "lares.lock").exists() and (home / "run" / "lares.lock").read_text())
    second = Parent(home)
    _, said = await asyncio.to_thread(second.process.communicate, None, 90)
    assert second.process.returncode == 1
    assert f"another Lares (pid {first.process.pid}) runs on {home}" in said.decode()
    await first.kill()
