"""The bookkeeping of a stream, without a broker."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lares.ingest.v1.events_pb2 import MediaIngested
from mesh.bus.ledger import Entry, Ledger
from mesh.bus.record import Outgoing
from mesh.delivery import Delivery


@dataclass
class Record:
    partition: int
    offset: int
    headers: list[Any] = field(default_factory=list)


def fill(ledger: Ledger[MediaIngested], partition: int, *offsets: int) -> None:
    generation = ledger.generation(partition)
    assert generation is not None
    for offset in offsets:
        delivery = Delivery(MediaIngested(), "", "t", partition, offset, datetime.now(UTC), {}, generation)
        ledger.add(Entry(Record(partition, offset), delivery))


def output(name: str) -> Outgoing:
    return Outgoing("out", None, name.encode(), ())


def published(ledger: Ledger[MediaIngested]) -> list[str]:
    """What would be published now, with its finishing."""
    values = []
    for partition, generation, entries in list(ledger.ready()):
        values += [(out.value or b"").decode() for entry in entries for out in entry.outputs or ()]
        ledger.finish(partition, generation, len(entries))
    return values


def test_a_position_moves_over_the_contiguous_done_prefix_only() -> None:
    ledger = Ledger[MediaIngested](10)
    ledger.assign(0, 5)
    fill(ledger, 0, 5, 6, 7)
    first, second, third = ledger.take(10)
    ledger.done(third, ())
    ledger.done(second, ())
    assert ledger.positions() == {0: 5}
    ledger.done(first, ())
    assert ledger.positions() == {0: 8}


def test_outputs_wait_for_those_before_them_and_hold_their_record_until_they_are_durable() -> None:
    ledger = Ledger[MediaIngested](10)
    ledger.assign(0, 0)
    fill(ledger, 0, 0, 1, 2)
    first, second, third = ledger.take(10)
    ledger.done(second, (output("2a"), output("2b")))
    assert published(ledger) == []
    ledger.done(first, (output("1"),))
    ledger.done(third, ())
    assert ledger.positions() == {0: 0}
    assert published(ledger) == ["1", "2a", "2b"]
    assert ledger.positions() == {0: 3}


def test_partitions_do_not_wait_for_each_other() -> None:
    ledger = Ledger[MediaIngested](10)
    ledger.assign(0, 0)
    ledger.assign(1, 0)
    fill(ledger, 0, 0)
    fill(ledger, 1, 0)
    _, other = ledger.take(10)
    ledger.done(other, (output("b"),))
    assert published(ledger) == ["b"]
    assert ledger.positions() == {0: 0, 1: 1}


def test_answers_to_an_assignment_that_is_over_are_ignored() -> None:
    ledger = Ledger[MediaIngested](10)
    ledger.assign(0, 0)
    fill(ledger, 0, 0, 1)
    late = ledger.take(1)[0]
    ledger.revoke()
    ledger.done(late, ())
    assert ledger.positions() == {}
    ledger.assign(0, 0)
    fill(ledger, 0, 0)
    ledger.done(late, ())
    assert ledger.positions() == {0: 0}
    assert ledger.find(late) is None


def test_what_was_waiting_when_its_partition_was_placed_anew_is_not_handed_out() -> None:
    ledger = Ledger[MediaIngested](10)
    ledger.assign(0, 0)
    fill(ledger, 0, 0, 1)
    ledger.assign(0, 1)
    fill(ledger, 0, 1)
    assert [delivery.offset for delivery in ledger.take(10)] == [1]


def test_durable_outputs_of_an_assignment_that_is_over_move_nothing() -> None:
    ledger = Ledger[MediaIngested](10)
    ledger.assign(0, 0)
    fill(ledger, 0, 0)
    ledger.done(ledger.take(1)[0], (output("a"),))
    (under_way,) = list(ledger.ready())
    ledger.assign(0, 0)
    fill(ledger, 0, 0)
    ledger.finish(under_way[0], under_way[1], len(under_way[2]))
    assert ledger.positions() == {0: 0}


def test_room_counts_what_is_done_but_not_finished() -> None:
    ledger = Ledger[MediaIngested](3)
    ledger.assign(0, 0)
    fill(ledger, 0, 0, 1, 2)
    first, second, _ = ledger.take(10)
    ledger.done(second, ())
    assert ledger.room == 0
    ledger.done(first, ())
    assert ledger.room == 2


def test_records_nobody_is_to_see_are_finished_in_their_place() -> None:
    ledger = Ledger[MediaIngested](10)
    ledger.assign(0, 0)
    fill(ledger, 0, 0)
    ledger.add(Entry(Record(0, 1), None, (output("dead"),)))
    ledger.add(Entry(Record(0, 2), None, ()))
    (seen,) = ledger.take(10)
    assert seen.offset == 0
    assert published(ledger) == []
    ledger.done(seen, ())
    assert published(ledger) == ["dead"]
    assert ledger.positions() == {0: 3}


def test_done_twice_is_done_once() -> None:
    ledger = Ledger[MediaIngested](10)
    ledger.assign(0, 0)
    fill(ledger, 0, 0)
    delivery = ledger.take(1)[0]
    ledger.done(delivery, (output("first"),))
    ledger.done(delivery, (output("second"),))
    assert published(ledger) == ["first"]


def test_a_stretch_without_records_counts_only_where_nothing_is_unfinished() -> None:
    ledger = Ledger[MediaIngested](10)
    ledger.assign(0, 0)
    fill(ledger, 0, 0)
    ledger.skip(0, 9)
    assert ledger.positions() == {0: 0}
    ledger.done(ledger.take(1)[0], ())
    ledger.skip(0, 9)
    assert ledger.positions() == {0: 9}


def test_it_says_when_everything_is_taken_or_gone() -> None:
    ledger = Ledger[MediaIngested](10)
    assert ledger.taken.is_set()
    ledger.assign(0, 0)
    fill(ledger, 0, 0, 1)
    ledger.take(1)
    assert not ledger.taken.is_set()
    ledger.take(1)
    assert ledger.taken.is_set()
    fill(ledger, 0, 2)
    assert not ledger.taken.is_set()
    ledger.revoke()
    assert ledger.taken.is_set()
