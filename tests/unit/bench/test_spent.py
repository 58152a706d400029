"""What clusters have done and used, and the rows that compare two."""

from tests.bench.measure import Row
from tests.bench.spent import Progress, Spent, cpu_rows, rate_row


def test_only_what_happened_in_between_counts() -> None:
    began = Progress(100.0, 12, {"store": 1.0, "Kafka": 4.0})
    ended = Progress(110.0, 212, {"store": 3.0, "Kafka": 5.0, "detector": 7.0})
    spent = Spent.between(began, ended)
    assert spent == Spent(10.0, 200, {"store": 2.0, "Kafka": 1.0, "detector": 7.0})
    assert (spent.rate, spent.cores) == (20.0, 1.0)
    assert spent.cpu_of_a_photo() == 0.05
    assert spent.cpu_of_a_photo("store", "Kafka") == 0.015


def run(seconds: float, **cpu: float) -> Spent:
    return Spent(seconds, 100, cpu)


def test_rates_are_compared_within_the_rounds() -> None:
    """The machine was twice as busy in the second round."""
    two, one = [run(1.0), run(2.0)], [run(1.8), run(3.6)]
    assert rate_row("two", two, "one", one, least=1.8) == Row(
        "two, photos a second", "75.0", "one 41.7", "1.80x (1.80x-1.80x)", ">= 1.8x", True
    )
    assert not rate_row("two", two, "one", one, least=1.81).met
    assert rate_row("two", two, "one", one).limit == ""


def test_cpu_is_compared_as_a_whole_and_by_part() -> None:
    ours, theirs = [run(1.0, store=0.3, detect=0.2)], [run(2.0, store=0.1, detect=0.3)]
    whole, detect, store, busy = cpu_rows(ours, "peer", theirs, "CPU", most=1.25)
    assert whole == Row("CPU", "5.00 ms", "peer 4.00 ms", "1.25x", "<= 1.25x", True)
    assert (detect.measure, detect.ratio, detect.limit) == ("    of that detect", "0.67x", "")
    assert (store.measure, store.ratio) == ("    of that store", "3.00x")
    assert (busy.value, busy.compared_with) == ("0.50", "peer 0.20")
    assert not cpu_rows(ours, "peer", theirs, "CPU", most=1.24)[0].met


def test_a_limit_is_missed_if_the_peer_did_nothing_that_can_be_counted() -> None:
    row = rate_row("two", [run(1.0)], "one", [Spent(1.0, 0, {})], least=1.8)
    assert (row.ratio, row.met) == ("", False)
