"""What is usual before a camera at an hour of the day: on how many days things of one label passed through a
zone, or stayed in it, within the same half-hours. Pure.

Counted as events grow, frame by frame in the order of the log, so that the counts do not depend on how the
log is cut into batches. Times are microseconds since 1970 (UTC).
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from enum import IntEnum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from mesh.scene.geometry import Polygon
from store_svc.times import SECOND, moment

# Read from that many local days before the event's own one.
WINDOW_DAYS = 28
_WINDOW = timedelta(days=WINDOW_DAYS)
# A habit was seen on so many different days, the first and last of which are at least three weeks apart, both
# days included.
LEAST_DAYS, LEAST_SPAN = 8, timedelta(days=20)
# What is longer in a zone stays there. The same as in the rules (PASSING_SECONDS).
PASSING_TIME = 20 * SECOND
HALF_HOURS = 48
MOST_STAYS, MOST_HABITS = 64, 64


class CountedBehaviour(IntEnum):
    """The numbers of lares.reason.v1.Behaviour."""

    PASSING = 1
    STAYING = 2


class CountedPlace(NamedTuple):
    """Things of one label in one zone, while the zone has this polygon (its digest)."""

    label: str
    zone_id: str
    polygon: str


class Stay(NamedTuple):
    """From the first to the last frame of an event that shows something there."""

    place: CountedPlace
    first_at: int
    last_at: int


Stays = tuple[Stay, ...]


class Bucket(NamedTuple):
    """What is counted: by half-hour of the local day, from 0, and by day."""

    place: CountedPlace
    behaviour: CountedBehaviour
    half_hour: int
    day: date


class UsualBehaviour(NamedTuple):
    label: str
    zone_id: str
    behaviour: CountedBehaviour
    days_seen: int


def dump_stays(stays: Stays) -> str:
    """Returns the value of the column events.stays: JSON [[label, zone, polygon, first_at, last_at], ...]."""
    return json.dumps([[*stay.place, stay.first_at, stay.last_at] for stay in stays]) if stays else "[]"


def load_stays(column: str | list[list[Any]]) -> Stays:
    """Parses the column as asyncpg (text) or SQLAlchemy (lists) returns it."""
    rows = json.loads(column) if isinstance(column, str) else column
    return tuple(Stay(CountedPlace(*row[:3]), *row[3:]) for row in rows)


def polygon_digest(polygon: Polygon) -> str:
    return hashlib.sha256(json.dumps(polygon.corners).encode()).hexdigest()[:16]


def with_frame(stays: Stays, at: int, places: Iterable[CountedPlace]) -> Stays:
    """The stays of an event when a frame has joined it that shows something in these places."""
    found = {stay.place: stay for stay in stays}
    for place in sorted(places):
        stay = found.get(place)
        if stay is not None:
            found[place] = Stay(place, min(stay.first_at, at), max(stay.last_at, at))
        elif len(found) < MOST_STAYS:
            found[place] = Stay(place, at, at)
    return tuple(found.values())


def local_half_hour(at: int, zone: ZoneInfo) -> tuple[date, int]:
    local = moment(at).astimezone(zone)
    return local.date(), local.hour * 2 + local.minute // 30


def window_of(day: date, half_hour: int) -> tuple[date, date, int, int]:
    """What an event of this local time is compared with: days (from, to) and half-hours (from, to), all
    inclusive. The half-hours beside its own belong to it, because nobody comes to the minute."""
    days = day - _WINDOW, day - timedelta(days=1)
    return *days, max(0, half_hour - 1), min(HALF_HOURS - 1, half_hour + 1)


class HabitBook:
    """One camera's counts: all of those that its events of a batch are compared with, which grow with the
    batch. `newest_day` is the latest day that was counted so far; None if there is none.

    The window moves with the newest day: what lies before it is no longer counted. An event of an earlier
    day is compared with nothing, because a part of its window may be gone.
    """

    def __init__(self, counts: Mapping[Bucket, int], newest_day: date | None) -> None:
        self._counts = Counter(counts)
        self._first_newest_day = newest_day
        self.newest_day = newest_day
        self.added: Counter[Bucket] = Counter()

    @property
    def has_moved(self) -> bool:
        """Whether the window has, so that something may lie before it."""
        return self.newest_day != self._first_newest_day

    @property
    def oldest_day(self) -> date:
        return (self.newest_day or date.min + _WINDOW) - _WINDOW

    def count(self, before: Stays, after: Stays, zone: ZoneInfo) -> None:
        """An event of that time zone had the stays of `before`, and has those of `after`."""
        if before == after:
            return
        old, new = _buckets(before, zone), _buckets(after, zone)
        days = [bucket.day for bucket in new]
        self.newest_day = max(days if self.newest_day is None else [self.newest_day, *days])
        for bucket in new - old:
            self._add(bucket, 1)
        for bucket in old - new:
            self._add(bucket, -1)

    def _add(self, bucket: Bucket, number: int) -> None:
        if bucket.day >= self.oldest_day:
            self._counts[bucket] += number
            self.added[bucket] += number

    def habits_at(self, at: int, zone: ZoneInfo, polygons: Mapping[str, str]) -> Sequence[UsualBehaviour]:
        """What is usual at this time. `polygons` are the digests of the camera's zones as they are now, by
        zone: what was counted in a zone of another shape is no habit in it."""
        day, half_hour = local_half_hour(at, zone)
        if self.newest_day is not None and day < self.newest_day:
            return ()
        first, last, earliest, latest = window_of(day, half_hour)
        days: defaultdict[tuple[str, str, CountedBehaviour], set[date]] = defaultdict(set)
        for bucket, number in self._counts.items():
            place = bucket.place
            if (
                number > 0
                and first <= bucket.day <= last
                and earliest <= bucket.half_hour <= latest
                and polygons.get(place.zone_id) == place.polygon
            ):
                days[place.label, place.zone_id, bucket.behaviour].add(bucket.day)
        habits = [
            UsualBehaviour(*key, len(seen))
            for key, seen in sorted(days.items())
            if len(seen) >= LEAST_DAYS and max(seen) - min(seen) >= LEAST_SPAN
        ]
        return habits[:MOST_HABITS]


def _buckets(stays: Stays, zone: ZoneInfo) -> frozenset[Bucket]:
    return frozenset(_bucket(stay, zone) for stay in stays)


def _bucket(stay: Stay, zone: ZoneInfo) -> Bucket:
    day, half_hour = local_half_hour(stay.first_at, zone)
    passes = stay.last_at - stay.first_at <= PASSING_TIME
    return Bucket(
        stay.place, CountedBehaviour.PASSING if passes else CountedBehaviour.STAYING, half_hour, day
    )
