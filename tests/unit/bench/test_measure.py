"""The rows of benchmarks: medians, intervals, ratios and limits."""

import pytest

from tests.bench.measure import Row, Samples, interval, milliseconds


@pytest.mark.parametrize(
    ("count", "expected"),
    # With 6 values the median is outside of them once in 32 times; with 9, outside of the inner 7 in 26.
    [(1, (1, 1)), (5, (1, 5)), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (12, (3, 10))],
)
def test_the_interval_is_the_narrowest_that_has_95_percent(count: int, expected: tuple[int, int]) -> None:
    assert interval([float(value) for value in range(count, 0, -1)]) == expected


def test_ratios_are_those_within_the_pairs() -> None:
    """The machine was three times as busy in the second pair."""
    samples = Samples(now=[1.0, 3.0], before=[2.0, 6.0])
    assert samples.change() == "0.50 (0.50-0.50)"
    row = samples.row("a photo", milliseconds, most=2.5)
    assert (row.value, row.before, row.limit, row.met) == ("2000.00 ms", "4000.00 ms", "<= 2500.00 ms", True)


def test_a_row_beside_a_peer_is_measured_by_the_ratio() -> None:
    lares, peer = Samples(now=[3.0, 3.0], before=[6.0, 6.0]), Samples(now=[2.0, 2.0], before=[3.0, 3.0])
    row = lares.row_beside(peer, "events", "FastAPI", milliseconds, most=1.4)
    assert (row.ratio, row.limit, row.met) == ("1.50x (1.50x-1.50x)", "<= 1.4x", False)
    assert row.before == "6000.00 ms, 2.00x"
    assert row.change == "0.50 (0.50-0.50)"


def test_without_an_earlier_commit_there_is_no_comparison() -> None:
    row = Samples(now=[1.0]).row("a photo", milliseconds)
    assert (row.before, row.change, row.limit) == ("", "", "")


@pytest.mark.parametrize(
    ("limit", "met", "mark"), [("<= 1 s", True, "ok"), ("<= 1 s", False, "MISS"), ("", True, "")]
)
def test_only_rows_with_a_limit_are_marked(limit: str, met: bool, mark: str) -> None:
    assert str(Row("a photo", "1 ms", "", "", limit, met)).partition("a photo")[0].strip() == mark
