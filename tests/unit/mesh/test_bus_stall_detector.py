"""When the detector reports a stall."""

from mesh.bus.stall_detector import JOIN_SECONDS, PATIENCE_SECONDS, StallDetector

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
