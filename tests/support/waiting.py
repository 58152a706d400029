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
    """Polls until `condition` holds; AssertionError after `seconds`, with `what` to say."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what()}"
        await asyncio.sleep(0.02)


async def until_async(condition: Callable[[], Awaitable[object]], seconds: float = 90.0) -> None:
    """The same for a condition that must be asked for."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        await asyncio.sleep(POLL_SECONDS)
