"""Keeps something up to date with a topic, in a task of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from mesh.bus import Bus, Start
from mesh.problems import Problem
from mesh.topics import M, Topic

log = structlog.get_logger(__name__)

AGAIN_SECONDS, LONGEST_AGAIN_SECONDS = 1.0, 30.0


@asynccontextmanager
async def follow_topic(
    bus: Bus, topic: Topic[M], start: Start, take: Callable[[M], None], entered: Callable[[], None]
) -> AsyncIterator[None]:
    """Hands every message from `start` on to `take`; within the block, what was there at entry has been
    taken.

    A reading that fails later, by whatever, begins anew at `start`: `take` must not mind. `entered` is
    called when the reading has begun, each time. Raises what the first one raises: Unavailable, NotFound,
    Denied.
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
    pause = AGAIN_SECONDS
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
                    if caught_up.done():
                        pause = AGAIN_SECONDS
                    caught_up.cancel()
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            # Only who ends this task ends the reading: one that a library cancelled begins anew, too.
            if not complete.is_set() or (task and task.cancelling()):
                raise
            told = {"reason": error.reason} if isinstance(error, Problem) else {"exc_info": error}
            log.warning("reading anew", topic=topic.name, error=str(error), **told)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_AGAIN_SECONDS)
