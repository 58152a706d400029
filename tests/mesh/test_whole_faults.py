"""Faults of a whole Lares: it or a part of it is killed, or it is started twice or with bad settings."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.certificates import write_certificate
from tests.support.lares import READY_SECONDS, ROOT, Lares, running_lares
from tests.support.photos import person_photo, renumbered
from tests.support.waiting import until, until_async

SETTINGS = {"LARES_EVENT_GAP_SECONDS": "1", "LARES_EVENT_SPAN_SECONDS": "3"}
MEDIA = "{ mediaList(first: 200) { edges { node { id } } } }"


@pytest.fixture(scope="module")
async def lares(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lares]:
    async with running_lares(tmp_path_factory.mktemp("faults") / "home", SETTINGS) as started:
        yield started


@dataclass
class Interrupted:
    """A Lares that is ready, and the exit code of its first start, which Ctrl-C interrupted."""

    lares: Lares
    exit_code: int


@pytest.fixture(scope="module")
async def interrupted(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Interrupted]:
    lares = Lares(tmp_path_factory.mktemp("interrupted") / "home", SETTINGS)
    lares.start()
    assert lares.process is not None
    await until(lares.children, what=lares.tail)
    lares.process.send_signal(signal.SIGINT)
    exit_code = await asyncio.to_thread(lares.process.wait, 90)
    lares.start()
    try:
        await lares.ready()
        yield Interrupted(lares, exit_code)
    finally:
        await lares.close()


async def media_ids(lares: Lares) -> set[str]:
    return {edge["node"]["id"] for edge in (await lares.graphql(MEDIA))["mediaList"]["edges"]}


def drop(lares: Lares, camera: str, number: int) -> None:
    """Moves a photo with this number into the camera's folder."""
    folder = lares.cameras / camera
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f".{number}.part").write_bytes(renumbered(person_photo(), number))
    (folder / f".{number}.part").rename(folder / f"{number}.jpg")


@pytest.mark.parametrize("program", ["java", "postgres"])
async def test_a_part_that_is_killed_restarts_and_no_photo_is_lost(lares: Lares, program: str) -> None:
    before = len(await media_ids(lares))
    for number in range(10):
        drop(lares, f"with-{program}", 1000 * len(program) + number)
        if number == 4:
            first = min(lares.children(program), key=lambda child: child.create_time())
            first.kill()
        await asyncio.sleep(0.1)
    await lares.ready()
    await lares.idle()
    assert len(await media_ids(lares)) == before + 10


async def test_the_status_says_that_kafka_hangs_and_what_is_known_without_it(lares: Lares) -> None:
    query = """{ status { idle ingest { problem } detect { ready problem } store { sequence problem }
      reason { state } } }"""
    await lares.idle()
    known = (await lares.graphql(query))["status"]
    assert known["idle"] is True
    (kafka,) = lares.children("java")
    kafka.send_signal(signal.SIGSTOP)
    try:
        # What hangs only now may have answered just before.
        await until_async(lambda: has_problem(lares, query))
        async with asyncio.timeout(8):  # much less than what such requests wait for Kafka otherwise
            status = (await lares.graphql(query))["status"]
    finally:
        kafka.send_signal(signal.SIGCONT)
    problem = {"problem": "Kafka does not answer: no response in time"}
    assert status == known | {
        "idle": False,
        "detect": known["detect"] | problem,
        "store": known["store"] | problem,
    }
    await lares.idle()
    assert (await lares.graphql(query))["status"] == known


async def has_problem(lares: Lares, query: str) -> bool:
    return bool((await lares.graphql(query))["status"]["store"]["problem"])


async def test_a_second_lares_on_the_same_home_is_refused(lares: Lares) -> None:
    second = Lares(lares.home, SETTINGS)
    second.log = lares.home.with_name("second.log")
    second.start()
    assert second.process is not None
    code = await asyncio.to_thread(second.process.wait, READY_SECONDS)
    assert code == 1
    assert f"another Lares (pid {lares.process.pid})" in second.tail()  # type: ignore[union-attr]
    assert "Traceback" not in second.tail()
    await second.close()


async def test_a_taken_port_is_reported(lares: Lares, tmp_path: Path) -> None:
    """The gateway alone starts more quickly than all targets."""
    settings = {
        "LARES_GATEWAY_LISTEN": lares.http,
        "LARES_BUS_URL": lares.admin_kafka_url,
        "LARES_PEERS": "store=127.0.0.1:1",
    }
    tls = {f"LARES_{name.upper()}": str(path) for name, path in write_certificate(tmp_path).items()}
    second = Lares(tmp_path / "home", settings | tls, targets=["gateway"])
    second.start()
    assert second.process is not None
    code = await asyncio.to_thread(second.process.wait, READY_SECONDS)
    assert code == 1
    assert lares.http in second.tail()
    assert "Traceback" not in second.tail()
    await second.close()


async def test_ctrl_c_ends_a_start_and_the_next_start_succeeds(interrupted: Interrupted) -> None:
    assert interrupted.exit_code == 130


async def test_two_homes_run_side_by_side(lares: Lares, interrupted: Interrupted) -> None:
    other = interrupted.lares
    drop(other, "only-here", 1)
    await other.idle()
    here = await media_ids(other)
    assert len(here) == 1
    assert not here & await media_ids(lares)


async def test_kill_9_of_the_main_process_ends_its_children(lares: Lares) -> None:
    assert lares.process is not None
    children = lares.children()
    assert lares.children("java")
    assert lares.children("postgres")
    lares.kill()
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, 90)
    assert alive == []
    lares.start()
    await lares.ready()
    drop(lares, "after-kill", 77)
    await lares.idle()


async def test_ctrl_c_ends_all_processes(lares: Lares) -> None:
    children = lares.children()
    await asyncio.to_thread(lares.stop, 90)
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, 90)
    assert alive == []
    assert lares.process is not None
    assert lares.process.returncode == 0
    lares.start()
    await lares.ready()


async def test_ctrl_c_ends_a_start_that_waits_for_a_download_of_another_program(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    lares = Lares(tmp_path / "home", {"LARES_CACHE": str(cache)})
    with (cache / "jars.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lares.start()
        assert lares.process is not None
        await until(lambda: "another program is fetching" in lares.tail(), 90, lares.tail)
        lares.process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(lares.process.wait, 90) == 130
    await lares.close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("LARES_TIME_ZONE", "Mars/Olympus"),
        ("LARES_CACHE", "/dev/null/x"),
        ("LARES_BLOBS_URL", "file:///dev/null/x"),
        ("LARES_BUS_URL", "kafka://me:hunter2@h"),
        ("LARES_DATABASE_URL", "postgresql+asyncpg://me:hunter2@h:port/db"),
    ],
)
def test_an_invalid_setting_is_named_in_the_error(tmp_path: Path, setting: str, value: str) -> None:
    addresses = {f"LARES_{kind}_LISTEN": "127.0.0.1:0" for kind in ("GATEWAY", "GRPC", "KAFKA")}
    environment = os.environ | addresses | {"LARES_HOME": str(tmp_path / "home"), setting: value}
    done = subprocess.run(
        [sys.executable, "-m", "deploy", "up"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"lares: {setting}: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_the_settings_are_printed_without_secrets() -> None:
    environment = os.environ | {"LARES_BUS_URL": "kafka://me:hun/ter2@127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "deploy", "config"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    assert "LARES_GRPC_LISTEN=127.0.0.1:50051" in done.stdout
    assert "kafka://me:***@127.0.0.1:9" in done.stdout
    assert "ter2" not in done.stdout
