"""Tells live photos, which are announced at once, from those that wait in the backlog for their turn.

Nothing about a file says whether its camera has just taken it. What does is how many arrive: no camera takes
hundreds of photos within seconds, but a copied folder brings them.
"""

from dataclasses import dataclass

from cachetools import LRUCache

# A camera's photos are live while no more than this many arrive at a time, and per second.
BURST, RATE = 20.0, 5.0
# Likewise those of all cameras together: when the folders of many are copied in, the others do not wait for a
# burst of each.
BURST_OF_ALL, RATE_OF_ALL = 64.0, 50.0
# Once photos of a camera wait, the next is live again only if this many could be: with fewer, it belongs to
# the same burst, and must not overtake the others.
OVERTAKING = 10.0
# Photos whose files were written longer ago do not count as the same burst as others.
OLD_SECONDS = 60.0
MAX_CAMERAS = 10_000


@dataclass
class _TokenBucket:
    capacity: float
    rate: float  # per second
    tokens: float
    filled_at: float

    def fill(self, now: float) -> float:
        """Returns how many tokens there are."""
        self.tokens = min(self.capacity, self.tokens + max(0.0, now - self.filled_at) * self.rate)
        self.filled_at = now
        return self.tokens

    def take(self) -> None:
        self.tokens = max(0.0, self.tokens - 1.0)


class LivePhotos:
    """Counts the photos of each source: a camera's folder, and whether its files are old. Times are monotonic
    seconds."""

    def __init__(self) -> None:
        # A source that is forgotten counts as a quiet one.
        self._sources: LRUCache[tuple[str, bool], _TokenBucket] = LRUCache(MAX_CAMERAS)
        self._of_all = _TokenBucket(BURST_OF_ALL, RATE_OF_ALL, BURST_OF_ALL, 0.0)

    def flooded(self, source: tuple[str, bool], now: float) -> None:
        """Counts so many photos that none of them is live."""
        self._sources[source] = _TokenBucket(BURST, RATE, 0.0, now)

    def arrived(self, source: tuple[str, bool], waiting: bool, now: float) -> bool:
        """Counts a photo, and returns whether it is live. `waiting`: photos of this source wait already."""
        bucket = self._sources.get(source) or _TokenBucket(BURST, RATE, BURST, now)
        self._sources[source] = bucket
        live = bucket.fill(now) >= (OVERTAKING if waiting else 1.0) and self._of_all.fill(now) >= 1.0
        bucket.take()
        if live:
            self._of_all.take()
        return live
