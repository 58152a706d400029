"""When a consumer counts as stalled."""

from mesh.bus.watchdog import JOIN_SECONDS, PATIENCE_SECONDS, Watchdog

LONG = PATIENCE_SECONDS + 1


def test_one_that_brings_nothing_of_what_is_there_has_stalled() -> None:
    watchdog = Watchdog()
    assert not watchdog.stalled(0, {0: 5}, {0: 6}, 0)
    assert not watchdog.stalled(1, {0: 5}, {0: 6}, 5)
    assert watchdog.stalled(LONG, {0: 5}, {0: 6}, 10)


def test_one_partition_is_enough() -> None:
    watchdog = Watchdog()
    watchdog.stalled(0, {0: 5, 1: 7}, {0: 6, 1: 7}, 0)
    assert watchdog.stalled(LONG, {0: 5, 1: 90}, {0: 6, 1: 90}, 10)


def test_one_with_nothing_to_do_has_not() -> None:
    watchdog = Watchdog()
    watchdog.stalled(0, {0: 6}, {0: 6}, 0)
    assert not watchdog.stalled(LONG, {0: 6}, {0: 6}, 10)


def test_one_that_moves_has_not() -> None:
    watchdog = Watchdog()
    watchdog.stalled(0, {0: 5}, {0: 100}, 0)
    assert not watchdog.stalled(LONG, {0: 6}, {0: 100}, 10)


def test_one_that_is_full_and_does_not_poll_has_not() -> None:
    watchdog = Watchdog()
    watchdog.stalled(0, {0: 5}, {0: 6}, 3)
    assert not watchdog.stalled(LONG, {0: 5}, {0: 6}, 4)


def test_time_without_an_answer_of_the_cluster_does_not_count() -> None:
    watchdog = Watchdog()
    watchdog.stalled(0, {0: 5}, {0: 6}, 0)
    watchdog.reset()
    assert not watchdog.stalled(LONG, {0: 5}, {0: 6}, 10)


def test_a_group_that_never_lets_us_in_is_a_stall_too() -> None:
    watchdog = Watchdog()
    assert not watchdog.unjoined(0)
    assert not watchdog.unjoined(JOIN_SECONDS - 1)
    assert watchdog.unjoined(JOIN_SECONDS + 1)
    watchdog.reset()
    assert not watchdog.unjoined(JOIN_SECONDS + 2)
