"""Waiting for what fails and will work again: disks, brokers, siblings."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import structlog

from mesh.problems import Problem

log = structlog.get_logger(__name__)

FIRST_SECONDS, MOST_SECONDS = 0.1, 10.0

T = TypeVar("T")


def pauses(first: float = FIRST_SECONDS, most: float = MOST_SECONDS) -> Iterator[float]:
    """Seconds to wait before each next attempt: doubling up to `most`, with jitter."""
    pause = first
    while True:
        yield pause * random.uniform(0.5, 1)  # noqa: S311
        pause = min(2 * pause, most)


async def until_done(work: Callable[[], Awaitable[T]], doing: str) -> T:
    """Repeats `work` until it succeeds; what no repetition can mend is raised."""
    for pause in pauses():
        try:
            return await work()
        except (Problem, OSError) as error:
            if isinstance(error, Problem) and not error.retryable:
                raise
            log.warning("will try again", doing=doing, error=str(error), pause=round(pause, 1))
        await asyncio.sleep(pause)
    raise AssertionError("pauses never end")
