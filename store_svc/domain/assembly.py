"""Assembles detections into events: a pure function of one camera's frames in log order.

It uses no clock and no database, and its result does not depend on how the frames are split into batches.
Times are microseconds since 1970 (UTC).
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from mesh.identity import event_id
from store_svc.domain.evidence import EarlierEvent, History
from store_svc.ids import parse_uuid
from store_svc.times import SECOND

HISTORY_SPAN = 3600 * SECOND


@dataclass(frozen=True, slots=True)
class AssemblyLimits:
    """Limits of an event, all inclusive.

    `gap` is the longest time between a frame and the event that it joins, `span` the longest time between the
    first and the last frame of an event, and `detections` the highest number of detections.
    """

    gap: int = 30 * SECOND
    span: int = 90 * SECOND
    detections: int = 2000

    @property
    def lookback(self) -> int:
        """How long before a frame an event can have started that matters for the frame."""
        return max(self.span, HISTORY_SPAN)


@dataclass(frozen=True, slots=True)
class AssemblyFrame:
    """One frame with the number of its detections, which all join the same event."""

    media_id: str
    index: int
    at: int
    detections: int


@dataclass(slots=True, eq=False)
class EventSpan:
    """What assembly needs to know about an event. Open and closed events are treated alike."""

    id: UUID
    started_at: int
    ended_at: int
    detections: int

    def distance(self, at: int) -> int:
        """Returns the time between `at` and the event, which is 0 during the event."""
        return max(self.started_at - at, at - self.ended_at, 0)

    def accepts(self, frame: AssemblyFrame, limits: AssemblyLimits) -> bool:
        return (
            self.distance(frame.at) <= limits.gap
            and max(self.ended_at, frame.at) - min(self.started_at, frame.at) <= limits.span
            and self.detections + frame.detections <= limits.detections
        )

    def add(self, frame: AssemblyFrame) -> None:
        self.started_at = min(self.started_at, frame.at)
        self.ended_at = max(self.ended_at, frame.at)
        self.detections += frame.detections


class Placement(NamedTuple):
    """The event that a frame joins. `number` is how many detections it had before, and `history` the events
    of the hour before if the frame opens it."""

    event_id: UUID
    number: int
    history: History | None


class Timeline:
    """One camera's events, as far back as they can matter for the frames to be placed."""

    def __init__(self, spans: Iterable[EventSpan], limits: AssemblyLimits) -> None:
        self._spans = sorted(spans, key=_start_and_id)
        self._limits = limits

    def place(self, frame: AssemblyFrame) -> Placement:
        """Returns the event that the frame joins.

        Of the events that accept the frame, it joins the nearest, then the one that started first, then the
        one with the smallest id. Frames without detections join no event and must not be placed.
        """
        # Events that started outside this range cannot accept the frame.
        near = self._started_between(frame.at - self._limits.span, frame.at + self._limits.gap)
        accepting = [span for span in near if span.accepts(frame, self._limits)]
        if accepting:
            chosen = min(accepting, key=lambda span: (span.distance(frame.at), span.started_at, span.id))
            number = chosen.detections
            if frame.at >= chosen.started_at:
                chosen.add(frame)
            else:
                self._spans.remove(chosen)
                chosen.add(frame)
                insort(self._spans, chosen, key=_start_and_id)
            return Placement(chosen.id, number, None)
        history = self.before(frame.at)
        id = parse_uuid(event_id(frame.media_id, frame.index))
        opened = EventSpan(id, frame.at, frame.at, frame.detections)
        insort(self._spans, opened, key=_start_and_id)
        return Placement(opened.id, 0, history)

    def before(self, at: int) -> History:
        """The events that started in the hour before, as they are now."""
        earlier = self._started_between(at - HISTORY_SPAN, at - 1)
        return tuple(
            EarlierEvent(span.id, span.started_at, span.ended_at, span.detections) for span in earlier
        )

    def _started_between(self, earliest: int, latest: int) -> list[EventSpan]:
        """Returns the events that started between these times, inclusive, in order."""
        first = bisect_left(self._spans, earliest, key=_start)
        return self._spans[first : bisect_right(self._spans, latest, lo=first, key=_start)]


def _start_and_id(span: EventSpan) -> tuple[int, UUID]:
    return span.started_at, span.id


def _start(span: EventSpan) -> int:
    return span.started_at


def event_windows(frames: Iterable[tuple[str, int]], limits: AssemblyLimits) -> list[tuple[str, int, int]]:
    """Returns the times, inclusive, between which the events started that matter for these frames.

    `frames` are pairs of camera and capture time. The windows (camera, from, to) are in order of camera and
    do not overlap.
    """
    merged: list[tuple[str, int, int]] = []
    for camera, at in sorted(frames):
        earliest, latest = at - limits.lookback, at + limits.gap
        if merged and merged[-1][0] == camera and merged[-1][2] >= earliest:
            merged[-1] = (camera, merged[-1][1], latest)
        else:
            merged.append((camera, earliest, latest))
    return merged
