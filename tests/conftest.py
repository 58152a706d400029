"""What every test may ask for: a real Kafka and a real PostgreSQL, started when first asked for."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "proto" / "gen")) if path not in sys.path]

from tests.support.parts import fetch_parts, fresh_database, running_kafka, running_postgres  # noqa: E402


def pytest_collection_finish(session: pytest.Session) -> None:
    """Before the first test, whose time limit it would exceed on a slow line."""
    whole = any(item.path.is_relative_to(ROOT / "tests" / "mesh") for item in session.items)
    if whole and not session.config.option.collectonly:
        asyncio.run(fetch_parts())


@pytest.fixture(scope="session")
async def kafka_url() -> AsyncIterator[str]:
    """`kafka://user:password@127.0.0.1:port` of the session's broker: name your topics and groups apart."""
    async with running_kafka() as url:
        yield url


@pytest.fixture(scope="session")
async def postgres_server() -> AsyncIterator[str]:
    """The session's server; use `postgres_url`."""
    async with running_postgres() as url:
        yield url


@pytest.fixture
async def postgres_url(postgres_server: str) -> AsyncIterator[str]:
    """`postgresql+asyncpg://...` of an empty database of this test's own."""
    async with fresh_database(postgres_server) as url:
        yield url
