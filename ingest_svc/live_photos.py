"""Tells live photos, which are announced at once, from those that wait in the backlog for their turn.

Nothing about a file says whether its camera has just taken it. What does is how many arrive: no camera takes
hundreds of photos within seconds, but a copied folder brings them.
"""

from cachetools import LRUCache

# A camera's photos are live while no more than this many arrive at a time, and per second.
BURST, RATE = 20.0, 5.0
# Once photos of a camera wait, the next is live again only if this many could be: with fewer, it belongs to
# the same burst, and must not overtake the others.
OVERTAKING = 10.0
# Photos whose files were written longer ago do not count as the same burst as others.
OLD_SECONDS = 60.0
MAX_CAMERAS = 10_000


class LivePhotos:
    """A token bucket for each source: a camera's folder, and whether its files are old. Times are monotonic
    seconds."""

    def __init__(self) -> None:
        # (tokens, when they were counted); a source that is forgotten counts as a quiet one.
        self._buckets: LRUCache[tuple[str, bool], tuple[float, float]] = LRUCache(MAX_CAMERAS)

    def arrived(self, source: tuple[str, bool], waiting: bool, now: float) -> bool:
        """Counts a photo, and returns whether it is live. `waiting`: photos of this source wait already."""
        tokens, counted_at = self._buckets.get(source, (BURST, now))
        tokens = min(BURST, tokens + max(0.0, now - counted_at) * RATE)
        live = tokens >= (OVERTAKING if waiting else 1.0)
        self._buckets[source] = (max(0.0, tokens - 1.0), now)
        return live
