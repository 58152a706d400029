"""Retrying what fails now and may work later. The only user of stamina."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import stamina
import stamina.instrumentation
import structlog

from mesh.problems import Problem

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double from `first` to `longest` seconds, each shortened at random by up to a half, so that
    many who wait for the same server do not all come back at once."""

    first: float
    longest: float

    def pause(self, failures: int) -> float:
        """Seconds to wait after `failures` failures in a row, of which there is at least one."""
        pause = min(self.longest, self.first * 2.0 ** min(failures - 1, 60))
        return pause * random.uniform(0.5, 1)  # noqa: S311  # jitter, not a secret


DEFAULT_BACKOFF = Backoff(0.1, 10.0)


def is_retryable(error: Exception) -> bool:
    """Whether the same call may succeed later: a retryable Problem, or an error of the operating system."""
    return error.retryable if isinstance(error, Problem) else isinstance(error, OSError)


async def retry(
    work: Callable[[], Awaitable[T]],
    doing: str,
    *,
    backoff: Backoff = DEFAULT_BACKOFF,
    retry_on: Callable[[Exception], bool] = is_retryable,
) -> T:
    """Repeats `work` until it succeeds, without a limit, and logs each failure with `doing`.

    Raises what `retry_on` does not accept.
    """
    failures = 0

    def pause_after(error: Exception) -> float | bool:
        nonlocal failures
        if not retry_on(error):
            return False
        failures += 1
        pause = backoff.pause(failures)
        reason = {"reason": error.reason} if isinstance(error, Problem) else {}
        log.warning("will retry", doing=doing, error=str(error), pause=round(pause, 1), **reason)
        return pause

    # Most work succeeds at once, and stamina would cost more than much of what is done here.
    try:
        return await work()
    except Exception as error:
        if (pause := pause_after(error)) is False:
            raise
    await asyncio.sleep(pause)
    # stamina would log every retry a second time, and count it in a metric with a label for its number:
    # retries here have no limit, so neither would have the series of that metric.
    stamina.instrumentation.set_on_retry_hooks([])
    async for attempt in stamina.retry_context(on=pause_after, attempts=None, timeout=None):
        with attempt:
            return await work()
    raise AssertionError("retry_context ends only with a result or an error")
