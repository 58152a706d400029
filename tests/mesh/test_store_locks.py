"""Whoever changes an event holds its camera's row first, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import pytest

from tests.support.facts import assessed, detected, opened_by
from tests.support.recorded import Recorded, open_recorded

EVENT = opened_by(1)


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        await recorded.detect(detected(1, 0))
        yield recorded


async def detect(store: Recorded) -> None:
    await store.detect(detected(2, 5))


async def assess(store: Recorded) -> None:
    row = await store.event(EVENT)
    await store.assess(assessed(EVENT, str(UUID(int=1)), row["evidence_revision"], row["evidence_digest"]))


async def sweep(store: Recorded) -> None:
    await store.sweep(after=30)


@pytest.mark.parametrize("change", [detect, assess, sweep])
async def test_a_change_waits_for_its_camera(
    store: Recorded, change: Callable[[Recorded], Awaitable[None]]
) -> None:
    async with store.database.session() as holder:
        async with holder.transaction():
            await holder.execute("SELECT FROM cameras FOR UPDATE")
            task = asyncio.ensure_future(change(store))
            async with asyncio.timeout(90):
                while not (task.done() or await waiting(store)):
                    await asyncio.sleep(0.01)
            assert not task.done()
            assert len(await store.feed()) == 1
        await task
    assert len(await store.feed()) == 2


async def waiting(store: Recorded) -> bool:
    """Whether a session of this database waits for a lock."""
    rows = await store.rows(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(rows)
