"""Secrets that are replaced under load: nothing fails, and nobody restarts anything.

`Rotation` is one secret of one part: how its file is written, how the server learns of the new one and drops
the old one with the connections that used it, and what is done all the time.
"""

import asyncio
import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from detect_svc.detectors.factory import open_detector
from mesh.blobs import open_blobs
from mesh.config import Config, load_config
from mesh.problems import Unavailable
from reason_svc.reasoner import ModelChoice
from reason_svc.reasoner_factory import open_reasoner
from store_svc.database import Connection, open_database
from store_svc.database.connector import Connector
from store_svc.migration import migrate
from tests.support.evidence import detections, evidence
from tests.support.photos import person_photo
from tests.support.rotated_secrets import DatabasePassword, database_password, replace, s3_keys
from tests.support.s3 import S3
from tests.support.scripted_llm import scripted
from tests.support.scripted_triton import scripted_triton
from tests.support.waiting import until

CASE = evidence(detections(["person"]))
ROUNDS = 3
WORKERS = 4


@dataclass
class Rotation:
    """`accept` makes the server accept a new secret, beside the old one where it can; `write` replaces the
    file; `drop` ends all use of the old one. `work` is one use, which must not fail."""

    write: Callable[[int], None]
    accept: Callable[[int], Awaitable[None]]
    drop: Callable[[int], Awaitable[None]]
    work: Callable[[], Awaitable[object]]


async def rotate_under_load(rotation: Rotation) -> int:
    """Replaces the secret ROUNDS times while WORKERS use it. Returns how often it was used.

    Each round ends when every worker has used the new one. Raises what a use raises.
    """
    uses = [0] * WORKERS
    stop = False

    async def work(number: int) -> None:
        while not stop:
            await rotation.work()
            uses[number] += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for number in range(WORKERS):
            group.create_task(work(number))
        for round in range(1, ROUNDS + 1):
            await rotation.accept(round)
            rotation.write(round)
            await rotation.drop(round - 1)
            before = list(uses)
            async with asyncio.timeout(60):
                while not all(now > then + 1 for now, then in zip(uses, before, strict=True)):
                    await asyncio.sleep(0.01)
        stop = True
    return sum(uses)


def config_with(monkeypatch: pytest.MonkeyPatch, **settings: object) -> Config:
    """Settings that end in `_file` are given as variables, as files are."""
    for name in [name for name in settings if name.endswith("_file")]:
        monkeypatch.setenv(f"LARES_{name.upper()}", str(settings.pop(name)))
    return load_config(**settings)


@pytest.fixture
async def role(postgres_url: str, tmp_path: Path) -> AsyncIterator[DatabasePassword]:
    async with database_password(postgres_url, tmp_path / "password") as password:
        yield password


async def test_the_password_of_postgresql(role: DatabasePassword, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_with(monkeypatch, database_url=role.url, database_password_file=role.file)
    opened = count_connects(monkeypatch)
    async with open_database(Connector(config.secret("database_url"))) as database:

        async def select(connection: Connection) -> None:
            await connection.fetchval("SELECT count(*) FROM cameras")

        async def drop(_: int) -> None:
            """Sessions go on after the password was changed, so each is closed here when it has no work."""
            wanted = len(opened) + WORKERS
            while len(opened) < wanted:
                for connection in database._idle:
                    connection.terminate()
                await asyncio.sleep(0)

        rotation = Rotation(role.write, role.accept, drop, lambda: database.transaction(select))
        assert await rotate_under_load(rotation) > ROUNDS * WORKERS
    assert len(opened) > ROUNDS * WORKERS


def count_connects(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A list that grows with each attempt to connect."""
    connect, attempts = asyncpg.connect, list[object]()

    async def counted(**options: Any) -> Any:
        attempts.append(options)
        return await connect(**options)

    monkeypatch.setattr(asyncpg, "connect", counted)
    return attempts


async def test_a_wrong_password_is_tried_rarely_and_the_right_one_at_once(
    role: DatabasePassword, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = count_connects(monkeypatch)
    config = config_with(monkeypatch, database_url=role.url, database_password_file=role.file)
    async with open_database(Connector(config.secret("database_url"))) as database:
        await database.check()
        await role.accept(1)
        await role.drop(0)
        async with asyncio.timeout(60):
            while not all(connection.is_closed() for connection in database._idle):
                await asyncio.sleep(0.01)
        attempts.clear()
        for _ in range(50):
            with pytest.raises(Unavailable) as refused:
                await database.check()
            assert (refused.value.reason, refused.value.retryable) == ("DATABASE_REFUSED", True)
            assert "password" not in refused.value.message
        assert len(attempts) == 1
        role.write(1)
        await database.check()  # without waiting for the pause to end
        assert len(attempts) == 2


async def test_a_migration_uses_the_password_in_the_file(
    role: DatabasePassword, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_with(monkeypatch, database_url=role.url, database_password_file=role.file)
    database = Connector(config.secret("database_url"))
    await role.accept(1)
    with pytest.raises(Unavailable) as refused:
        await migrate(database)
    assert refused.value.reason == "DATABASE_REFUSED"
    role.write(1)
    await migrate(database)


async def test_the_key_of_s3(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = await s3_keys(s3, tmp_path)
    files = {"blobs_key_file": keys.key_file, "blobs_secret_file": keys.secret_file}
    config = config_with(monkeypatch, cache=tmp_path, blobs_url=keys.url, **files)
    blobs = await open_blobs(config)

    async def work() -> None:
        content = os.urandom(100)
        blob = await blobs.put(io.BytesIO(content))
        assert b"".join([piece async for piece in blobs.open_range(blob.sha256, 0, 100)]) == content
        assert blob.sha256 in {name async for name in blobs.list()}
        await blobs._require_bucket(30)  # type: ignore[attr-defined]

    try:
        assert await rotate_under_load(Rotation(keys.write, keys.accept, keys.drop, work)) > ROUNDS * WORKERS
        await keys.drop(ROUNDS)
        with pytest.raises(Unavailable, match="refuses"):
            await work()
    finally:
        blobs.close()


async def test_the_token_of_a_language_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    replace(file, "token 0")
    async with AsyncExitStack() as stack:
        llm = await stack.enter_async_context(scripted())
        llm.key = "token 0"
        url = llm.url().replace(":a-secret-key@", "")
        config = config_with(monkeypatch, reasoner_url=url, reasoner_token_file=file)
        reasoner = await stack.enter_async_context(open_reasoner(config, config.secret("reasoner_url")))

        async def accept(number: int) -> None:
            """This server has one token at a time, so the file is written first."""
            replace(file, f"token {number}")
            llm.key = f"token {number}"

        async def drop(_: int) -> None:
            pass

        async def work() -> None:
            assert (await reasoner.assess(CASE, ModelChoice())).score == 55

        assert await rotate_under_load(Rotation(lambda _: None, accept, drop, work)) > ROUNDS * WORKERS
        assert llm.refused <= 2 * ROUNDS * WORKERS


@pytest.mark.parametrize("as_proxy", [False, True])
async def test_the_token_of_triton(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_proxy: bool) -> None:
    file = tmp_path / "token"
    replace(file, "token 0")
    async with scripted_triton(as_proxy=as_proxy) as triton:
        triton.tokens = {"token 0"}
        url = f"triton://{triton.address}/m?processes=1"
        config = config_with(monkeypatch, detector_url=url, detector_token_file=file)
        async with open_detector(config) as detector:

            async def accept(number: int) -> None:
                triton.tokens.add(f"token {number}")

            async def drop(number: int) -> None:
                triton.tokens.remove(f"token {number}")

            async def work() -> None:
                assert not (await detector.detect(person_photo())).detections

            rotation = Rotation(lambda number: replace(file, f"token {number}"), accept, drop, work)
            assert await rotate_under_load(rotation) > ROUNDS * WORKERS
            assert triton.refused <= 2 * ROUNDS * WORKERS
            # Dropped too early: whoever finds the new one in the file goes on, without a restart.
            await drop(ROUNDS)
            with pytest.raises(Unavailable, match="is the token"):
                await work()
            await accept(ROUNDS + 1)
            rotation.write(ROUNDS + 1)
            await until(lambda: all(server.available for server in detector.servers()))
            await work()
