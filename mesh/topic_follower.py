"""Keeps a consumer of messages up to date with a topic, in a background task."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from mesh.bus import Bus, Start
from mesh.problems import Problem
from mesh.retry import Backoff
from mesh.topics import M, Topic

log = structlog.get_logger(__name__)

BACKOFF = Backoff(1.0, 30.0)


@asynccontextmanager
async def follow_topic(
    bus: Bus, topic: Topic[M], start: Start, take: Callable[[M], None], entered: Callable[[], None]
) -> AsyncIterator[None]:
    """Passes every message from `start` on to `take`. When the block is entered, `take` has received all
    messages that were in the topic before.

    If reading fails later, it begins again at `start`, so `take` must accept messages that it has seen.
    `entered` is called each time that reading has begun. Raises what the first reading raises: Unavailable,
    NotFound, Denied.
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
    failures = 0
    while True:
        failures += 1
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
                        failures = 1
                    caught_up.cancel()
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            # A cancellation from within a library is a failure; only that of this task ends the reading.
            if not complete.is_set() or (task and task.cancelling()):
                raise
            details = {"reason": error.reason} if isinstance(error, Problem) else {"exc_info": error}
            log.warning("reading failed, starting again", topic=topic.name, error=str(error), **details)
            await asyncio.sleep(BACKOFF.pause(failures))
