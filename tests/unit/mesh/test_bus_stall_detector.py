"""When a consumer counts as stalled."""

from mesh.bus.stall_detector import JOIN_SECONDS, PATIENCE_SECONDS, StallDetector

LONG = PATIENCE_SECONDS + 1


def test_one_that_brings_nothing_of_what_is_there_has_stalled() -> None:
    stall_detector = StallDetector()
    assert not stall_detector.stalled(0, {0: 5}, {0: 6}, 0)
    assert not stall_detector.stalled(1, {0: 5}, {0: 6}, 5)
    assert stall_detector.stalled(LONG, {0: 5}, {0: 6}, 10)


def test_one_partition_is_enough() -> None:
    stall_detector = StallDetector()
    stall_detector.stalled(0, {0: 5, 1: 7}, {0: 6, 1: 7}, 0)
    assert stall_detector.stalled(LONG, {0: 5, 1: 90}, {0: 6, 1: 90}, 10)


def test_one_with_nothing_to_do_has_not() -> None:
    stall_detector = StallDetector()
    stall_detector.stalled(0, {0: 6}, {0: 6}, 0)
    assert not stall_detector.stalled(LONG, {0: 6}, {0: 6}, 10)


def test_one_that_moves_has_not() -> None:
    stall_detector = StallDetector()
    stall_detector.stalled(0, {0: 5}, {0: 100}, 0)
    assert not stall_detector.stalled(LONG, {0: 6}, {0: 100}, 10)


def test_one_that_is_full_and_does_not_poll_has_not() -> None:
    stall_detector = StallDetector()
    stall_detector.stalled(0, {0: 5}, {0: 6}, 3)
    assert not stall_detector.stalled(LONG, {0: 5}, {0: 6}, 4)


def test_time_without_an_answer_of_the_cluster_does_not_count() -> None:
    stall_detector = StallDetector()
    stall_detector.stalled(0, {0: 5}, {0: 6}, 0)
    stall_detector.reset()
    assert not stall_detector.stalled(LONG, {0: 5}, {0: 6}, 10)


def test_a_group_that_never_lets_us_in_is_a_stall_too() -> None:
    stall_detector = StallDetector()
    assert not stall_detector.unjoined(0)
    assert not stall_detector.unjoined(JOIN_SECONDS - 1)
    assert stall_detector.unjoined(JOIN_SECONDS + 1)
    stall_detector.reset()
    assert not stall_detector.unjoined(JOIN_SECONDS + 2)
