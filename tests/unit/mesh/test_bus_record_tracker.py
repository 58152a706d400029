"""Tracking of records, without a broker."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lares.ingest.v1.events_pb2 import MediaIngested
from mesh.bus.record import Outgoing
from mesh.bus.record_tracker import GATHER_RECORDS, UNFINISHED, RecordTracker, TrackedRecord
from mesh.delivery import Delivery


@dataclass
class Record:
    partition: int
    offset: int
    headers: list[Any] = field(default_factory=list)


def fill(tracker: RecordTracker[MediaIngested], partition: int, *offsets: int) -> None:
    generation = tracker.generation(partition)
    assert generation is not None
    for offset in offsets:
        delivery = Delivery(MediaIngested(), "", "t", partition, offset, datetime.now(UTC), {}, generation)
        tracker.add(TrackedRecord(Record(partition, offset), delivery))


def output(name: str) -> Outgoing:
    return Outgoing("out", None, name.encode(), ())


def published(tracker: RecordTracker[MediaIngested]) -> list[str]:
    """Publishes and finishes what is ready. Returns the outputs."""
    values = []
    for partition, generation, entries in list(tracker.ready()):
        values += [(out.value or b"").decode() for entry in entries for out in entry.outputs or ()]
        tracker.finish(partition, generation, len(entries))
    return values


def test_the_position_moves_up_to_the_first_record_that_is_not_done() -> None:
    tracker = RecordTracker[MediaIngested](10)
    tracker.assign(0, 5)
    fill(tracker, 0, 5, 6, 7)
    first, second, third = tracker.take(10)
    tracker.done(third, ())
    tracker.done(second, ())
    assert tracker.positions() == {0: 5}
    tracker.done(first, ())
    assert tracker.positions() == {0: 8}


def test_outputs_wait_for_earlier_ones_and_records_for_their_outputs() -> None:
    tracker = RecordTracker[MediaIngested](10)
    tracker.assign(0, 0)
    fill(tracker, 0, 0, 1, 2)
    first, second, third = tracker.take(10)
    tracker.done(second, (output("2a"), output("2b")))
    assert published(tracker) == []
    tracker.done(first, (output("1"),))
    tracker.done(third, ())
    assert tracker.positions() == {0: 0}
    assert published(tracker) == ["1", "2a", "2b"]
    assert tracker.positions() == {0: 3}


def test_partitions_do_not_wait_for_each_other() -> None:
    tracker = RecordTracker[MediaIngested](10)
    tracker.assign(0, 0)
    tracker.assign(1, 0)
    fill(tracker, 0, 0)
    fill(tracker, 1, 0)
    _, other = tracker.take(10)
    tracker.done(other, (output("b"),))
    assert published(tracker) == ["b"]
    assert tracker.positions() == {0: 0, 1: 1}


def test_deliveries_of_an_earlier_assignment_are_ignored() -> None:
    tracker = RecordTracker[MediaIngested](10)
    tracker.assign(0, 0)
    fill(tracker, 0, 0, 1)
    late = tracker.take(1)[0]
    tracker.revoke()
    tracker.done(late, ())
    assert tracker.positions() == {}
    tracker.assign(0, 0)
    fill(tracker, 0, 0)
    tracker.done(late, ())
    assert tracker.positions() == {0: 0}
    assert tracker.find(late) is None


def test_waiting_records_of_an_earlier_assignment_are_not_delivered() -> None:
    tracker = RecordTracker[MediaIngested](10)
    tracker.assign(0, 0)
    fill(tracker, 0, 0, 1)
    tracker.assign(0, 1)
    fill(tracker, 0, 1)
    assert [delivery.offset for delivery in tracker.take(10)] == [1]


def test_durable_outputs_of_an_earlier_assignment_do_not_move_the_position() -> None:
    tracker = RecordTracker[MediaIngested](10)
    tracker.assign(0, 0)
    fill(tracker, 0, 0)
    tracker.done(tracker.take(1)[0], (output("a"),))
    (published_before,) = list(tracker.ready())
    tracker.assign(0, 0)
    fill(tracker, 0, 0)
    tracker.finish(published_before[0], published_before[1], len(published_before[2]))
    assert tracker.positions() == {0: 0}


def test_done_records_take_room_until_they_are_finished() -> None:
    """Less than those that are not done: one that takes long does not hold up the others."""
    tracker = RecordTracker[MediaIngested](2)
    tracker.assign(0, 0)
    fill(tracker, 0, 0, 1)
    long, *others = tracker.take(10)
    assert tracker.room == 0
    for offset in range(2, 2 * UNFINISHED):
        tracker.drained.clear()
        tracker.done(others.pop(), (output(str(offset)),))
        assert tracker.drained.is_set()
        assert tracker.room == 1
        fill(tracker, 0, offset)
        others += tracker.take(10)
    tracker.done(others.pop(), ())
    assert tracker.room == 0
    tracker.done(long, (output("long"),))
    assert tracker.room == 0
    assert published(tracker)[0] == "long"
    assert tracker.room == 2


def test_records_without_a_delivery_are_finished_in_order() -> None:
    tracker = RecordTracker[MediaIngested](10)
    tracker.assign(0, 0)
    fill(tracker, 0, 0)
    tracker.add(TrackedRecord(Record(0, 1), None, (output("dead"),)))
    tracker.add(TrackedRecord(Record(0, 2), None, ()))
    (seen,) = tracker.take(10)
    assert seen.offset == 0
    assert published(tracker) == []
    tracker.done(seen, ())
    assert published(tracker) == ["dead"]
    assert tracker.positions() == {0: 3}


def test_only_the_first_done_of_a_record_counts() -> None:
    tracker = RecordTracker[MediaIngested](10)
    tracker.assign(0, 0)
    fill(tracker, 0, 0)
    delivery = tracker.take(1)[0]
    tracker.done(delivery, (output("first"),))
    tracker.done(delivery, (output("second"),))
    assert published(tracker) == ["first"]


def test_offsets_without_records_are_skipped_only_if_nothing_is_unfinished() -> None:
    tracker = RecordTracker[MediaIngested](10)
    tracker.assign(0, 0)
    fill(tracker, 0, 0)
    tracker.skip(0, 9)
    assert tracker.positions() == {0: 0}
    tracker.done(tracker.take(1)[0], ())
    tracker.skip(0, 9)
    assert tracker.positions() == {0: 9}


def test_taken_is_set_when_everything_is_delivered_or_revoked() -> None:
    tracker = RecordTracker[MediaIngested](10)
    assert tracker.taken.is_set()
    tracker.assign(0, 0)
    fill(tracker, 0, 0, 1)
    tracker.take(1)
    assert not tracker.taken.is_set()
    tracker.take(1)
    assert tracker.taken.is_set()
    fill(tracker, 0, 2)
    assert not tracker.taken.is_set()
    tracker.revoke()
    assert tracker.taken.is_set()


def test_processed_records_count_whether_their_outputs_are_published_or_not() -> None:
    tracker = RecordTracker[MediaIngested](10)
    tracker.assign(0, 5)
    assert tracker.processed() == {0: 5}
    fill(tracker, 0, 5, 6, 7)
    first, second, third = tracker.take(10)
    tracker.done(second, (output("second"),))
    # The first one may take long: it counts as one.
    assert (tracker.processed(), tracker.positions()) == ({0: 6}, {0: 5})
    tracker.done(first, (output("first"),))
    assert (tracker.processed(), tracker.positions()) == ({0: 7}, {0: 5})
    tracker.done(third, (output("third"),))
    assert (tracker.processed(), tracker.positions()) == ({0: 8}, {0: 5})


def test_it_is_urgent_while_an_urgent_record_can_be_published() -> None:
    tracker = RecordTracker[MediaIngested](10)
    tracker.assign(0, 0)
    fill(tracker, 0, 0, 1, 2)
    first, second, third = tracker.take(10)
    tracker.done(second, (output("second"),), urgent=True)
    assert not tracker.urgent  # the first must be published before
    tracker.done(first, (output("first"),), urgent=False)
    assert tracker.urgent
    assert published(tracker) == ["first", "second"]
    tracker.done(third, (output("third"),), urgent=False)
    assert not tracker.urgent


def test_outputs_are_gathered_until_there_are_many_or_everything_is_done() -> None:
    tracker = RecordTracker[MediaIngested](3 * GATHER_RECORDS)
    tracker.assign(0, 0)
    tracker.assign(1, 0)
    assert tracker.gathered.is_set()
    fill(tracker, 0, *range(GATHER_RECORDS))
    fill(tracker, 1, 0, 1)
    assert not tracker.gathered.is_set()
    *most, last, other, second = tracker.take(100)
    for delivery in reversed(most[1:]):
        tracker.done(delivery, (output("later"),))
    tracker.done(other, (output("other"),))
    assert not tracker.gathered.is_set()  # the first holds the others back
    tracker.done(most[0], (output("first"),))
    assert tracker.gathered.is_set()
    assert len(published(tracker)) == GATHER_RECORDS
    assert not tracker.gathered.is_set()
    tracker.done(last, (output("last"),))
    tracker.done(last, ())
    assert not tracker.gathered.is_set()
    tracker.done(second, (output("second"),))
    assert tracker.gathered.is_set()


def test_dropped_records_are_not_waited_for() -> None:
    tracker = RecordTracker[MediaIngested](10)
    tracker.assign(0, 0)
    fill(tracker, 0, 0)
    tracker.assign(0, 0)
    assert tracker.gathered.is_set()
    fill(tracker, 0, 0)
    assert not tracker.gathered.is_set()
    tracker.revoke()
    assert tracker.gathered.is_set()
