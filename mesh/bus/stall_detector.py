"""Distinguishes a consumer that has stalled from one that has nothing to read."""

from collections.abc import Mapping

# After a broker has restarted, aiokafka's consumer sometimes stops fetching without an error:
# https://github.com/aio-libs/aiokafka/issues/847, https://github.com/aio-libs/aiokafka/issues/1154
CHECK_SECONDS = 3.0
PATIENCE_SECONDS = 6.0
JOIN_SECONDS = 30.0


class StallDetector:
    """Times are in seconds of one monotonic clock. `complete_polls` counts the polls that returned fewer
    records than they had room for."""

    def __init__(self) -> None:
        # By partition that has unread records: position, since when, and the count of polls then.
        self._behind: dict[int, tuple[int, float, int]] = {}
        self._unjoined_since: float | None = None

    def stalled(
        self, now: float, positions: Mapping[int, int], ends: Mapping[int, int], complete_polls: int
    ) -> bool:
        """Returns whether a partition has had unread records for 6 s although polls had room for them."""
        self._unjoined_since = None
        behind = {number: at for number, at in positions.items() if ends.get(number, 0) > at}
        for number in self._behind.keys() - behind.keys():
            del self._behind[number]
        for number, position in behind.items():
            before = self._behind.get(number)
            if before is None or before[0] != position:
                self._behind[number] = (position, now, complete_polls)
        return any(
            now - since > PATIENCE_SECONDS and complete_polls - polls > 1
            for _, since, polls in self._behind.values()
        )

    def unjoined(self, now: float) -> bool:
        """Returns whether joining the group has taken longer than any rebalance."""
        self._behind.clear()
        if self._unjoined_since is None:
            self._unjoined_since = now
        return now - self._unjoined_since > JOIN_SECONDS

    def reset(self) -> None:
        """Starts over, because the cluster does not answer and a stall cannot be recognised."""
        self._behind.clear()
        self._unjoined_since = None
