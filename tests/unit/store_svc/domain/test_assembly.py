"""Assembly: detections to events."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from mesh.identity import event_id
from store_svc.domain.assembly import (
    AssemblyFrame,
    AssemblyLimits,
    EventSpan,
    Placement,
    Timeline,
    event_windows,
)
from store_svc.domain.evidence import EarlierEvent
from store_svc.times import SECOND

LIMITS = AssemblyLimits(gap=30 * SECOND, span=90 * SECOND, detections=500)
MEDIA = [str(UUID(int=n)) for n in range(1, 100)]


def frame(n: int, at: float, detections: int = 1) -> AssemblyFrame:
    """Returns photo number `n`, captured at `at` seconds."""
    return AssemblyFrame(MEDIA[n], 0, round(at * SECOND), detections)


def opened_by(n: int) -> UUID:
    return UUID(event_id(MEDIA[n], 0))


def place(frames: Iterable[AssemblyFrame], limits: AssemblyLimits = LIMITS) -> list[UUID]:
    timeline = Timeline([], limits)
    return [timeline.place(each)[0] for each in frames]


def span(id: int, started: float, ended: float, detections: int = 1) -> EventSpan:
    return EventSpan(UUID(int=id), round(started * SECOND), round(ended * SECOND), detections)


def joined(spans: Sequence[EventSpan], at: float, detections: int = 1) -> UUID | None:
    """Returns the event that a frame joins, or None if the frame opens one."""
    placed = Timeline(spans, LIMITS).place(frame(0, at, detections))
    return placed.event_id if placed.history is None else None


class TestLimits:
    def test_gap_is_inclusive_to_the_microsecond(self) -> None:
        event = span(1, 0, 10)
        assert joined([replace(event)], 40) == event.id
        assert joined([replace(event)], 40.000001) is None
        assert joined([replace(event)], -30) == event.id
        assert joined([replace(event)], -30.000001) is None

    def test_span_is_inclusive_to_the_microsecond(self) -> None:
        event = span(1, 0, 70)
        assert joined([replace(event)], 90) == event.id
        assert joined([replace(event)], 90.000001) is None
        assert joined([replace(event)], -20) == event.id
        assert joined([replace(event)], -20.000001) is None

    def test_count_is_inclusive_and_a_frame_is_not_split(self) -> None:
        event = span(1, 0, 0, 490)
        assert joined([replace(event)], 0, 10) == event.id
        assert joined([replace(event)], 0, 11) is None

    def test_a_frame_above_the_count_opens_its_own_event_and_keeps_it(self) -> None:
        assert place([frame(1, 0, 501), frame(2, 0), frame(3, 1)]) == [
            opened_by(1),
            opened_by(2),
            opened_by(2),
        ]

    def test_one_photo_a_second_makes_events_of_the_longest_span(self) -> None:
        ids = place(frame(n, n) for n in range(1, 99))
        assert ids == [opened_by(1)] * 91 + [opened_by(92)] * 7


class TestChoice:
    def test_the_nearest(self) -> None:
        assert joined([span(1, 0, 10), span(2, 35, 40)], 23) == UUID(int=2)
        assert joined([span(1, 0, 10), span(2, 35, 40)], 22) == UUID(int=1)

    def test_inside_is_nearer_than_any_edge(self) -> None:
        assert joined([span(1, 0, 10), span(2, 11, 40)], 11) == UUID(int=2)

    def test_then_the_earliest_started(self) -> None:
        assert joined([span(1, 5, 10), span(2, 0, 10)], 20) == UUID(int=2)
        assert joined([span(1, 20, 30), span(2, 0, 10)], 15) == UUID(int=2)

    def test_then_the_smallest_id(self) -> None:
        assert joined([span(2, 0, 10), span(1, 0, 10)], 5) == UUID(int=1)

    def test_never_an_event_that_is_full(self) -> None:
        assert joined([span(1, 0, 10, 500), span(2, 20, 30)], 11) == UUID(int=2)

    def test_a_late_photo_joins_and_extends_the_event_backwards(self) -> None:
        assert place([frame(1, 100), frame(2, 75), frame(3, 50), frame(4, 9)]) == [
            opened_by(1),
            opened_by(1),
            opened_by(1),
            opened_by(4),
        ]


class TestHistory:
    def test_has_the_events_started_in_the_hour_before_in_order(self) -> None:
        known = [span(4, 3599, 3599), span(2, 0, 1), span(3, 40, 50), span(1, -1, 0), span(5, 3700, 3700)]
        assert Timeline(known, LIMITS).place(frame(0, 3640)).history == (
            EarlierEvent(UUID(int=3), 40 * SECOND, 50 * SECOND, 1),
            EarlierEvent(UUID(int=4), 3599 * SECOND, 3599 * SECOND, 1),
        )

    def test_has_no_event_of_the_same_time(self) -> None:
        assert Timeline([span(1, 0, 0, 500)], LIMITS).place(frame(0, 0)).history == ()

    def test_has_the_events_as_they_are_then(self) -> None:
        timeline = Timeline([span(1, 0, 10, 4)], LIMITS)
        assert timeline.place(frame(0, 20, 3)) == Placement(UUID(int=1), 4, None)
        opened = timeline.place(frame(1, 100))
        assert timeline.place(frame(2, 25)) == Placement(UUID(int=1), 7, None)
        assert opened.history == (EarlierEvent(UUID(int=1), 0, 20 * SECOND, 7),)


# Times in half seconds, some about an hour apart, and small limits, so that borders and ties are frequent.
SMALL = AssemblyLimits(gap=2 * SECOND, span=5 * SECOND, detections=6)
FRAMES = st.lists(
    st.tuples(st.integers(0, 80), st.sampled_from([0, 0, 0, 1800, 3595]), st.integers(1, 7)), max_size=40
).map(lambda triples: [frame(n, half / 2 + hour, count) for n, (half, hour, count) in enumerate(triples)])


def by_definition(frames: Sequence[AssemblyFrame], limits: AssemblyLimits) -> list[Placement]:
    """Places frames by the definition of assembly, over all events."""
    events: list[EventSpan] = []
    placed: list[Placement] = []
    for each in frames:
        candidates = [
            (max(e.started_at - each.at, each.at - e.ended_at, 0), e.started_at, e.id, e)
            for e in events
            if each.at - e.ended_at <= limits.gap
            and e.started_at - each.at <= limits.gap
            and max(e.ended_at, each.at) - min(e.started_at, each.at) <= limits.span
            and e.detections + each.detections <= limits.detections
        ]
        if candidates:
            event = min(candidates)[3]
            placed.append(Placement(event.id, event.detections, None))
            event.add(each)
            continue
        hour = sorted(
            (e.started_at, e.id, e.ended_at, e.detections)
            for e in events
            if 0 < each.at - e.started_at <= 3600 * SECOND
        )
        history = tuple(EarlierEvent(id, at, until, count) for at, id, until, count in hour)
        events.append(EventSpan(UUID(event_id(each.media_id, each.index)), each.at, each.at, each.detections))
        placed.append(Placement(events[-1].id, 0, history))
    return placed


def in_batches(
    frames: Sequence[AssemblyFrame], cuts: Iterable[int], limits: AssemblyLimits
) -> list[Placement]:
    """Places frames as the store does, with a timeline for each batch, of the events in its windows."""
    rows: dict[UUID, EventSpan] = {}
    placed: list[Placement] = []
    borders = [0, *sorted(min(cut, len(frames)) for cut in cuts), len(frames)]
    for start, end in pairwise(borders):
        batch = frames[start:end]
        shown = {
            row.id: replace(row)
            for _, earliest, latest in event_windows((("front", each.at) for each in batch), limits)
            for row in rows.values()
            if earliest <= row.started_at <= latest
        }
        opened: dict[UUID, EventSpan] = {}
        timeline = Timeline(shown.values(), limits)
        for each in batch:
            placed.append(timeline.place(each))
            id = placed[-1].event_id
            if placed[-1].history is not None:
                opened[id] = EventSpan(id, each.at, each.at, each.detections)
            elif id in opened:
                opened[id].add(each)
        rows |= shown | opened
    return placed


class TestPlacement:
    @given(FRAMES)
    def test_follows_the_definition(self, frames: list[AssemblyFrame]) -> None:
        timeline = Timeline([], SMALL)
        assert [timeline.place(each) for each in frames] == by_definition(frames, SMALL)

    @given(FRAMES, st.lists(st.integers(0, 40), max_size=8))
    def test_does_not_depend_on_batches(self, frames: list[AssemblyFrame], cuts: list[int]) -> None:
        assert in_batches(frames, cuts, SMALL) == by_definition(frames, SMALL)

    @given(FRAMES)
    def test_is_the_same_one_by_one_as_in_one_batch(self, frames: list[AssemblyFrame]) -> None:
        ordered = sorted(frames, key=lambda each: each.at)
        assert in_batches(ordered, range(len(ordered)), SMALL) == in_batches(ordered, [], SMALL)

    @given(FRAMES)
    def test_keeps_the_limits(self, frames: list[AssemblyFrame]) -> None:
        members: dict[UUID, list[AssemblyFrame]] = {}
        for each, id in zip(frames, place(frames, SMALL), strict=True):
            members.setdefault(id, []).append(each)
        for joined in members.values():
            times = [each.at for each in joined]
            assert max(times) - min(times) <= SMALL.span
            assert sum(each.detections for each in joined) <= SMALL.detections or len(joined) == 1


class TestWindows:
    def test_are_merged_where_they_touch(self) -> None:
        found = event_windows([("b", 0), ("a", 3630 * SECOND), ("a", 0)], LIMITS)
        assert found == [
            ("a", -3600 * SECOND, 3660 * SECOND),
            ("b", -3600 * SECOND, 30 * SECOND),
        ]

    def test_are_not_merged_across_the_time_before_a_late_photo(self) -> None:
        found = event_windows([("a", 0), ("a", 86400 * SECOND)], LIMITS)
        assert found == [
            ("a", -3600 * SECOND, 30 * SECOND),
            ("a", 82800 * SECOND, 86430 * SECOND),
        ]
