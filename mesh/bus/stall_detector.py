"""Distinguishes a consumer that has stalled from one that has nothing to read."""

from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition

# After a broker has restarted, aiokafka's consumer sometimes stops fetching without an error:
# https://github.com/aio-libs/aiokafka/issues/847, https://github.com/aio-libs/aiokafka/issues/1154
CHECK_SECONDS = 3.0
PATIENCE_SECONDS = 6.0
JOIN_SECONDS = 30.0
# A partition is fetched all the time, and each fetch ends after `fetch_max_wait_ms`. One that was not fetched
# for so much longer may have stalled.
LATE_SECONDS = 1.0


class FetchedEnds:
    """The ends of a topic's partitions as its consumer has learned them by fetching. While it fetches, Kafka
    need not be asked whether there are records that it does not fetch. Times are as for StallDetector."""

    def __init__(self, topic: str, fetch_seconds: float) -> None:
        self._topic, self._fetch_seconds = topic, fetch_seconds
        # By partition: what the consumer gives as the time of the last fetch, and since when.
        self._fetched: dict[int, tuple[int, float]] = {}

    def read(self, now: float, consumer: Any, partitions: Iterable[int]) -> dict[int, int] | None:
        """Returns the end of each partition, or None if one of them is not fetched: then only Kafka knows."""
        assigned, ends = consumer.assignment(), dict[int, int]()
        for number in partitions:
            partition = TopicPartition(self._topic, number)
            fetched = consumer.last_poll_timestamp(partition) if partition in assigned else None
            if fetched is None:
                self._fetched.pop(number, None)
                return None
            # The consumer's time is that of the clock, which may be set; what counts is whether it changes.
            if self._fetched.get(number, (None,))[0] != fetched:
                self._fetched[number] = fetched, now
            if now - self._fetched[number][1] > self._fetch_seconds + LATE_SECONDS:
                return None
            ends[number] = consumer.highwater(partition)
        return ends


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
