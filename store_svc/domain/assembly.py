"""Detections to events: a pure fold over one camera's frames in log order.

Nothing here reads a clock or a database, and nothing depends on how the frames were cut into batches.
Times are microseconds since 1970 (UTC).
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from mesh.identity import event_id
from store_svc.domain.evidence import EarlierEvent, History
from store_svc.ids import parse_uuid
from store_svc.times import SECOND

HISTORY_SPAN = 3600 * SECOND


@dataclass(frozen=True, slots=True)
class AssemblyLimits:
    """All inclusive: a frame exactly `gap` away joins, an event may last exactly `span`."""

    gap: int = 30 * SECOND
    span: int = 90 * SECOND
    detections: int = 500

    @property
    def lookback(self) -> int:
        """How far before a frame an event may have started that matters to it."""
        return max(self.span, HISTORY_SPAN)


@dataclass(frozen=True, slots=True)
class AssemblyFrame:
    """The watched detections of one frame, which stay together."""

    media_id: str
    index: int
    at: int
    detections: int


@dataclass(slots=True, eq=False)
class EventSpan:
    """What assembly knows of an event; open or closed makes no difference."""

    id: UUID
    started_at: int
    ended_at: int
    detections: int

    def distance(self, at: int) -> int:
        """0 inside."""
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


class Timeline:
    """One camera's events, as far as the frames to come can matter to them."""

    def __init__(self, spans: Iterable[EventSpan], limits: AssemblyLimits) -> None:
        self._spans = sorted(spans, key=_place)
        self._limits = limits

    def place(self, frame: AssemblyFrame) -> tuple[UUID, History | None]:
        """The event that the frame joins; with a history when it opens that event.

        It joins the nearest event that takes it, then the earliest started, then the smallest id. The frame
        must have detections: an empty one does nothing and is not placed.
        """
        # An event that started outside of this cannot take it.
        near = self._started(frame.at - self._limits.span, frame.at + self._limits.gap)
        taking = [span for span in near if span.accepts(frame, self._limits)]
        if taking:
            chosen = min(taking, key=lambda span: (span.distance(frame.at), span.started_at, span.id))
            self._spans.remove(chosen)
            chosen.add(frame)
            insort(self._spans, chosen, key=_place)
            return chosen.id, None
        history = self._started(frame.at - HISTORY_SPAN, frame.at - 1)
        id = parse_uuid(event_id(frame.media_id, frame.index))
        opened = EventSpan(id, frame.at, frame.at, frame.detections)
        insort(self._spans, opened, key=_place)
        return opened.id, tuple(EarlierEvent(span.id, span.started_at) for span in history)

    def _started(self, earliest: int, latest: int) -> list[EventSpan]:
        """Those started within, inclusive, in order."""
        first = bisect_left(self._spans, earliest, key=_start)
        return self._spans[first : bisect_right(self._spans, latest, lo=first, key=_start)]


def _place(span: EventSpan) -> tuple[int, UUID]:
    return span.started_at, span.id


def _start(span: EventSpan) -> int:
    return span.started_at


def event_windows(frames: Iterable[tuple[str, int]], limits: AssemblyLimits) -> list[tuple[str, int, int]]:
    """For frames (camera, time) to come: within which times, inclusive, the events started that can matter to
    them. By camera, without overlaps."""
    merged: list[tuple[str, int, int]] = []
    for camera, at in sorted(frames):
        earliest, latest = at - limits.lookback, at + limits.gap
        if merged and merged[-1][0] == camera and merged[-1][2] >= earliest:
            merged[-1] = (camera, merged[-1][1], latest)
        else:
            merged.append((camera, earliest, latest))
    return merged
