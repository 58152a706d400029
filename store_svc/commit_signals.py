"""Signals inside one process that a commit has left work, so that loops need not poll often.

Signals only save time: commits of other processes are noticed by polling. Therefore every wait has a timeout,
of a second or less where latency matters.
"""

import asyncio


class CommitSignal:
    """Wakes all waiting tasks.

    To miss nothing, call `upcoming()` before reading the database, and wait for its result afterwards.
    """

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def notify(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    def upcoming(self) -> asyncio.Event:
        """Returns an event that the next `notify()` sets."""
        return self._next


async def wait(upcoming: asyncio.Event, timeout: float) -> bool:
    """Returns whether the event was set within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            await upcoming.wait()
    except TimeoutError:
        return False
    return True


class CommitSignals:
    """`due`: a job has become due. `feed`: the outbox has something to publish."""

    def __init__(self) -> None:
        self.due = CommitSignal()
        self.feed = CommitSignal()

    def notify(self, *, feed: bool, due: bool) -> None:
        if feed:
            self.feed.notify()
        if due:
            self.due.notify()
