import asyncio
from pathlib import Path

import pytest

from ingest_svc.watching.watch_barrier import BARRIER_NAME, WatchBarrier
from tests.support.waiting import until


async def test_a_late_event_of_one_barrier_does_not_answer_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_file = tmp_path / f"{BARRIER_NAME}.1"
    barrier = WatchBarrier(tmp_path)
    first = asyncio.create_task(barrier.wait())
    await until(first_file.exists)
    barrier.reached(first_file.name)
    assert await first
    monkeypatch.setattr("ingest_svc.watching.watch_barrier.WAIT_SECONDS", 0.01)
    second = asyncio.create_task(barrier.wait())
    barrier.reached(first_file.name)  # the watcher's thread sees a second event just before the next question
    assert not await second
    assert list(tmp_path.iterdir()) == []
