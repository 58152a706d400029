"""Keeps something up to date with a topic, in a task of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from mesh.bus import Bus, Start
from mesh.problems import Problem
from mesh.topics import M, Topic

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 1.0


@asynccontextmanager
async def following(
    bus: Bus, topic: Topic[M], start: Start, take: Callable[[M], None], entered: Callable[[], None]
) -> AsyncIterator[None]:
    """Hands every message from `start` on to `take`; within the block, what was there at entry has been
    taken.

    A reading that fails later begins anew at `start`: `take` must not mind. `entered` is called when the
    reading has begun, each time. Raises what the first one raises: Unavailable, NotFound, Denied.
    """
    complete = asyncio.Event()
    reading = asyncio.create_task(
        _read(bus, topic, start, take, entered, complete), name=f"follow {topic.name}"
    )
    waiting = asyncio.create_task(complete.wait())
    try:
        await asyncio.wait([waiting, reading], return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()
        yield
    finally:
        reading.cancel()
        waiting.cancel()
        await asyncio.gather(reading, waiting, return_exceptions=True)


async def _read(
    bus: Bus,
    topic: Topic[M],
    start: Start,
    take: Callable[[M], None],
    entered: Callable[[], None],
    complete: asyncio.Event,
) -> None:
    while True:
        try:
            async with bus.tail(topic, start=start) as tail:
                entered()
                caught_up = asyncio.create_task(tail.caught_up())
                caught_up.add_done_callback(lambda done: None if done.cancelled() else complete.set())
                try:
                    async for delivery in tail:
                        take(delivery.message)
                finally:
                    caught_up.cancel()
        except Problem as problem:
            if not complete.is_set():
                raise
            log.warning("reading anew", topic=topic.name, reason=problem.reason, error=problem.message)
            await asyncio.sleep(AGAIN_SECONDS)
