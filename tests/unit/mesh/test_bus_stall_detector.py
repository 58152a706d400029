"""When the detector reports a stall, and when Kafka has to be asked for it."""

from aiokafka import TopicPartition

from mesh.bus.stall_detector import (
    JOIN_SECONDS,
    LATE_SECONDS,
    PATIENCE_SECONDS,
    FetchedEnds,
    StallDetector,
)

LONG = PATIENCE_SECONDS + 1


def test_a_consumer_that_fetches_nothing_although_there_are_records_has_stalled() -> None:
    detector = StallDetector()
    assert not detector.stalled(0, {0: 5}, {0: 6}, 0)
    assert not detector.stalled(1, {0: 5}, {0: 6}, 5)
    assert detector.stalled(LONG, {0: 5}, {0: 6}, 10)


def test_one_stalled_partition_is_enough() -> None:
    detector = StallDetector()
    detector.stalled(0, {0: 5, 1: 7}, {0: 6, 1: 7}, 0)
    assert detector.stalled(LONG, {0: 5, 1: 90}, {0: 6, 1: 90}, 10)


def test_a_consumer_at_the_end_of_the_log_has_not_stalled() -> None:
    detector = StallDetector()
    detector.stalled(0, {0: 6}, {0: 6}, 0)
    assert not detector.stalled(LONG, {0: 6}, {0: 6}, 10)


def test_a_consumer_that_makes_progress_has_not_stalled() -> None:
    detector = StallDetector()
    detector.stalled(0, {0: 5}, {0: 100}, 0)
    assert not detector.stalled(LONG, {0: 6}, {0: 100}, 10)


def test_a_consumer_without_room_that_does_not_poll_has_not_stalled() -> None:
    detector = StallDetector()
    detector.stalled(0, {0: 5}, {0: 6}, 3)
    assert not detector.stalled(LONG, {0: 5}, {0: 6}, 4)


def test_time_without_an_answer_of_the_cluster_does_not_count() -> None:
    detector = StallDetector()
    detector.stalled(0, {0: 5}, {0: 6}, 0)
    detector.reset()
    assert not detector.stalled(LONG, {0: 5}, {0: 6}, 10)


def test_a_consumer_that_cannot_join_its_group_has_stalled() -> None:
    detector = StallDetector()
    assert not detector.unjoined(0)
    assert not detector.unjoined(JOIN_SECONDS - 1)
    assert detector.unjoined(JOIN_SECONDS + 1)
    detector.reset()
    assert not detector.unjoined(JOIN_SECONDS + 2)


class FakeConsumer:
    """Has fetched the ends in `ends`, each at the time in `fetched`, by the clock."""

    def __init__(self, ends: dict[int, int]) -> None:
        self.ends = ends
        self.fetched: dict[int, int | None] = dict.fromkeys(ends, 1)

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition("media", number) for number in self.ends}

    def last_poll_timestamp(self, partition: TopicPartition) -> int | None:
        return self.fetched[partition.partition]

    def highwater(self, partition: TopicPartition) -> int:
        return self.ends[partition.partition]


class TestFetchedEnds:
    def test_are_known_while_every_partition_is_fetched(self) -> None:
        ends, consumer = FetchedEnds("media", 5), FakeConsumer({0: 3, 1: 0})
        for now in range(0, 60, 5):
            consumer.fetched = {0: 1000 - now, 1: 1000 - now}  # a clock that was set back
            assert ends.read(now, consumer, [0, 1]) == {0: 3, 1: 0}

    def test_are_unknown_once_a_fetch_has_taken_longer_than_it_can(self) -> None:
        ends, consumer = FetchedEnds("media", 5), FakeConsumer({0: 3, 1: 0})
        assert ends.read(0, consumer, [0, 1])
        consumer.fetched[0] = 2
        assert ends.read(5, consumer, [0, 1])
        assert ends.read(5.1 + LATE_SECONDS, consumer, [0, 1]) is None
        consumer.fetched[1] = 2
        assert ends.read(6 + LATE_SECONDS, consumer, [0, 1])

    def test_are_unknown_before_a_partition_is_fetched(self) -> None:
        ends, consumer = FetchedEnds("media", 5), FakeConsumer({0: 3})
        consumer.fetched[0] = None
        assert ends.read(0, consumer, [0]) is None
        consumer.fetched[0] = 1
        assert ends.read(1, consumer, [0]) == {0: 3}
        assert ends.read(1, consumer, [0, 1]) is None  # not assigned

    def test_of_no_partitions_are_known(self) -> None:
        assert FetchedEnds("media", 5).read(0, FakeConsumer({}), []) == {}
