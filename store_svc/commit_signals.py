"""Signals inside one process that a commit has left work, so that loops need not poll often.

Signals only save time: commits of other processes are noticed by polling. Therefore every wait has a timeout,
of a second or less where latency matters and other processes may use the database.
"""

import asyncio

# How often to look although nothing was signalled and no other process uses the database.
ALONE_SECONDS = 5.0
# Nothing waits for kept media, so those of this period share a request: there are as many as photos.
KEPT_SECONDS = 1.0


class CommitSignal:
    """Wakes all waiting tasks.

    To miss nothing, call `upcoming()` before reading the database, and wait for its result afterwards. Wait
    for `patience` at most. `alone`: no other process uses the database.
    """

    def __init__(self, *, alone: bool = False) -> None:
        self._alone = alone
        # Whether the process stops: calls that wait for a signal should return.
        self.ended = False
        self._next = asyncio.Event()
        self._later: asyncio.TimerHandle | None = None

    def notify(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    def end(self) -> None:
        self.ended = True
        self.notify()

    def notify_after(self, seconds: float) -> None:
        """Notifies after that time, once for all calls until then."""
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(seconds, self._notify_now)

    def _notify_now(self) -> None:
        self._later = None
        self.notify()

    def upcoming(self) -> asyncio.Event:
        """Returns an event that the next `notify()` sets."""
        return self._next

    def patience(self, seconds: float) -> float:
        """`seconds` if other processes use the database, otherwise longer."""
        return max(seconds, ALONE_SECONDS) if self._alone else seconds


async def wait(upcoming: asyncio.Event, timeout: float) -> bool:
    """Returns whether the event was set within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            await upcoming.wait()
    except TimeoutError:
        return False
    return True


class CommitSignals:
    """`due`: a job has become due. `feed`: the outbox has something to publish. `rendered`: a rendition was
    made, or could not be made."""

    def __init__(self, *, alone: bool = False) -> None:
        self.due = CommitSignal(alone=alone)
        self.feed = CommitSignal(alone=alone)
        self.rendered = CommitSignal(alone=alone)

    def end_calls(self) -> None:
        """Ends the waiting of calls, since the process stops."""
        for signal in (self.due, self.rendered):
            signal.end()

    def notify(self, *, feed: bool, due: bool, kept: bool = False, rendered: bool = False) -> None:
        """`kept`: the outbox has kept media, which are published a little later unless `feed` is set."""
        if rendered:
            self.rendered.notify()
        if feed:
            self.feed.notify()
        elif kept:
            self.feed.notify_after(KEPT_SECONDS)
        if due:
            self.due.notify()
