"""The feed on a real broker, with subscribers that join at any time while it is written."""

import asyncio
import random
from functools import partial

import pytest

from mesh.bus import Bus
from mesh.feed import Feed, open_feed
from mesh.topics import FEED
from tests.support.in_memory_feed import InMemoryFeed, relay


async def subscribe(feed: Feed, source: InMemoryFeed, total: int) -> tuple[int, list[int]]:
    await asyncio.sleep(random.random())
    # At most the last but one, as nothing is sent after the last change.
    after, seen = random.randint(0, min(source.head, total - 1)), list[int]()
    async for changed in feed.watch(after):
        seen.append(changed.sequence)
        if random.random() < 0.01:
            await asyncio.sleep(0.05)  # a slow subscriber
        if changed.sequence == total:
            break
    return after, seen


@pytest.mark.parametrize("buffer", [4, 256])
async def test_every_subscriber_receives_every_change_once(
    bus: Bus, buffer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.feed.SUBSCRIBER_BUFFER", buffer)
    source, total = InMemoryFeed(), 500
    async with open_feed(bus, source.backlog) as feed:
        writing = asyncio.create_task(relay(source, total, partial(bus.publish, FEED)))
        watching = [asyncio.create_task(subscribe(feed, source, total)) for _ in range(20)]
        await asyncio.wait_for(writing, 90)
        for after, seen in await asyncio.wait_for(asyncio.gather(*watching), 90):
            assert seen == list(range(after + 1, total + 1))
