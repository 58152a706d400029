"""Says inside one process that the database has something new, so that nobody need poll often.

It only hastens: another process's commit is seen by polling, so every waiter passes a timeout of a second
or less where it matters, and looks again.
"""

import asyncio


class CommitSignal:
    """Wakes all who wait. Take `upcoming()` before looking, then wait for it: nothing is missed."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def notify(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    def upcoming(self) -> asyncio.Event:
        return self._next


async def wait(upcoming: asyncio.Event, timeout: float) -> bool:
    """Whether it came within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            await upcoming.wait()
    except TimeoutError:
        return False
    return True


class CommitSignals:
    """`due`: an event became due for judging. `feed`: the outbox has something to publish."""

    def __init__(self) -> None:
        self.due = CommitSignal()
        self.feed = CommitSignal()

    def notify(self, *, feed: bool, due: bool) -> None:
        if feed:
            self.feed.notify()
        if due:
            self.due.notify()
