"""A feed in memory, and a relay that publishes it."""

import random
from collections.abc import Awaitable, Callable

from lares.store.v1.events_pb2 import EventChanged
from mesh.problems import Conflict, Invalid


def change(sequence: int) -> EventChanged:
    changed = EventChanged(sequence=sequence)
    changed.event.camera_id = f"cam-{sequence % 3}"
    return changed


class InMemoryFeed:
    """Sequences 1, 2, 3, ... without a gap; those up to `expired` are no longer kept."""

    def __init__(self) -> None:
        self.changes: list[EventChanged] = []
        self.expired = 0
        self.reads = 0

    @property
    def head(self) -> int:
        return len(self.changes)

    def write(self) -> EventChanged:
        self.changes.append(change(self.head + 1))
        return self.changes[-1]

    async def backlog(self, after: int, limit: int) -> tuple[list[EventChanged], int]:
        self.reads += 1
        if after > self.head:
            raise Invalid(f"the feed ends at {self.head}", "CURSOR_BEYOND_HEAD")
        if 0 < after < self.expired:
            raise Conflict(f"kept from {self.expired}", "CURSOR_EXPIRED")
        return self.changes[max(after, self.expired) : max(after, self.expired) + limit], self.head


async def relay(feed: InMemoryFeed, count: int, publish: Callable[..., Awaitable[None]]) -> None:
    """Writes changes and publishes them, sometimes twice, like a relay that is killed after publishing."""
    pending: list[EventChanged] = []
    for _ in range(count):
        pending.append(feed.write())
        if random.random() < 0.3:
            await publish(*pending)
            if random.random() < 0.3:
                await publish(*pending)
            pending = []
    await publish(*pending)
