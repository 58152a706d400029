"""Tells a consumer that has stalled from one that has nothing to do."""

from collections.abc import Mapping

# aiokafka stops fetching now and then after a broker restarted (aiokafka #847, #1154).
LOOK_SECONDS = 3.0
PATIENCE_SECONDS = 6.0
JOIN_SECONDS = 30.0


class StallDetector:
    """Times are seconds of one monotonic clock; `emptied` counts the polls that brought all there was."""

    def __init__(self) -> None:
        self._behind: dict[int, tuple[int, float, int]] = {}
        self._unjoined: float | None = None

    def stalled(
        self, now: float, positions: Mapping[int, int], ends: Mapping[int, int], emptied: int
    ) -> bool:
        """Whether a partition has had records for some time that polls with room do not bring."""
        self._unjoined = None
        behind = {number: at for number, at in positions.items() if ends.get(number, 0) > at}
        for number in self._behind.keys() - behind.keys():
            del self._behind[number]
        for number, position in behind.items():
            before = self._behind.get(number)
            if before is None or before[0] != position:
                self._behind[number] = (position, now, emptied)
        return any(
            now - since > PATIENCE_SECONDS and emptied - polls > 1
            for _, since, polls in self._behind.values()
        )

    def unjoined(self, now: float) -> bool:
        """Whether the group has kept us waiting for longer than a rebalance takes."""
        self._behind.clear()
        if self._unjoined is None:
            self._unjoined = now
        return now - self._unjoined > JOIN_SECONDS

    def reset(self) -> None:
        """Nobody can tell now: the cluster does not answer."""
        self._behind.clear()
        self._unjoined = None
