"""Waiting in tests: for a condition, never for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.05


async def until(
    condition: Callable[[], object],
    seconds: float = 90.0,
    what: Callable[[], str] = lambda: "it did not happen",
) -> None:
    """Polls until `condition` holds. Raises AssertionError with the text of `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what()}"
        await asyncio.sleep(0.02)


async def until_async(condition: Callable[[], Awaitable[object]], seconds: float = 90.0) -> None:
    """Polls until an asynchronous `condition` holds. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        await asyncio.sleep(POLL_SECONDS)
