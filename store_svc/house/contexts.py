"""What the house knew at the time of each of several events, for their evidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Interval, ScalarSelect, func, literal_column, or_, select, true
from sqlalchemy.dialects.postgresql import distinct_on

from lares.store.v1.house_pb2 import ExpectedVisit, SiteNote, SiteNotes
from store_svc.database.statement import Connection, Record, Statement, parameter, unnested
from store_svc.database.tables import (
    expected_visits,
    house,
    mode_changes,
    mode_schedules,
    people,
    presence_reports,
)
from store_svc.domain.expected_visit import PlannedVisit, matches
from store_svc.domain.house import ARRIVAL_LASTS, PRESENCE_LASTS, UNWELCOME, HouseContext, KnownPerson
from store_svc.domain.mode import MANUAL, StoredModeChange, latest_change
from store_svc.house.house_messages import planned_visit, weekly_schedule

_moment = unnested("moment", {"at": mode_changes.c.at}, ordinality="place")
_at, _until = _moment.c.at, _moment.c.at + parameter("entry_delay", Interval)
_change = (
    select(mode_changes.c.at, mode_changes.c.mode, mode_changes.c.source)
    .where(mode_changes.c.at <= _until, or_(mode_changes.c.at <= _at, mode_changes.c.source == MANUAL))
    .order_by(mode_changes.c.at.desc(), mode_changes.c.number.desc())
    .limit(1)
    .lateral("change")
)
_schedule = (
    select(mode_schedules.c.since, mode_schedules.c.body)
    .where(mode_schedules.c.since <= _at)
    .order_by(mode_schedules.c.since.desc(), mode_schedules.c.number.desc())
    .limit(1)
    .lateral("schedule")
)


def _present(after: ColumnElement[Any], until: ColumnElement[Any]) -> ScalarSelect[Any]:
    """The people whose latest report between these times says that they are present."""
    report = presence_reports.alias()
    latest = (
        select(report.c.person_id, report.c.present)
        .where(report.c.reported_at > after, report.c.reported_at <= until)
        .ext(distinct_on(report.c.person_id))
        .order_by(report.c.person_id, report.c.reported_at.desc(), report.c.number.desc())
        .correlate(_moment)
        .subquery()
    )
    return select(latest.c.person_id).where(latest.c.present).order_by(latest.c.person_id).scalar_subquery()


_arrival_began = _at - parameter("arrival", Interval)
_MOMENTS = Statement(
    select(
        house.c.revision,
        _change.c.at.label("changed_at"),
        _change.c.mode,
        _change.c.source,
        _schedule.c.since,
        _schedule.c.body,
        func.array(_present(_arrival_began, _until)).label("present"),
        func.array(_present(_at - parameter("presence", Interval), _arrival_began)).label("present_before"),
    )
    .select_from(_moment.join(house, house.c.told).outerjoin(_change, true()).outerjoin(_schedule, true()))
    .order_by(_moment.c.place)
)

_person, _visit = people.alias("person"), expected_visits.alias("visit")
# One statement reads one snapshot, with its revision.
_HOUSE = Statement(
    select(
        house.c.revision,
        house.c.site_notes,
        func.array(
            select(literal_column("person")).select_from(_person).order_by(_person.c.id).scalar_subquery()
        ).label("people"),
        func.array(
            select(literal_column("visit")).select_from(_visit).order_by(_visit.c.id).scalar_subquery()
        ).label("visits"),
    )
)


@dataclass(frozen=True, slots=True)
class _House:
    """People, expected visits and notes as of a revision."""

    revision: int
    people: tuple[KnownPerson, ...] = ()
    visits: tuple[PlannedVisit, ...] = ()
    notes: tuple[SiteNote, ...] = ()


class HouseContexts:
    """People, visits and notes are remembered until the revision of the house changes, so that a batch costs
    one statement, which ends at once in a home about which nobody has told anything."""

    def __init__(self, entry_delay: timedelta) -> None:
        self._entry_delay = entry_delay
        # Nothing of revision 0: nobody has told anything yet.
        self._house = _House(0)

    async def houses_at(
        self, connection: Connection, moments: Sequence[tuple[str, datetime]]
    ) -> list[HouseContext]:
        """What the house knew for events that begin at these moments: (camera id, capture time).

        Present are those who have arrived: within ARRIVAL_LASTS before, and not present before that. The
        mode and presence are as of the capture time, changed by what callers have said within the entry
        delay after it; the rest is as of now. Reads what is committed: a transaction that changes people,
        visits or notes must not call this.
        """
        if not moments:
            return []
        rows = await _MOMENTS.fetch(
            connection,
            moment_at=[at for _, at in moments],
            entry_delay=self._entry_delay,
            arrival=ARRIVAL_LASTS,
            presence=PRESENCE_LASTS,
        )
        if not rows:
            return [HouseContext()] * len(moments)
        if rows[0]["revision"] != self._house.revision:
            self._house = await _read_house(connection)
        house = self._house
        return [
            HouseContext(
                mode=_mode(row, at),
                people=house.people,
                present_person_ids=_arrived(house, row["present"], row["present_before"]),
                expected=tuple(visit for visit in house.visits if matches(visit, camera_id, at)),
                site_notes=tuple(note.text for note in house.notes if note.camera_id in ("", camera_id)),
            )
            for (camera_id, at), row in zip(moments, rows, strict=True)
        ]


async def _read_house(connection: Connection) -> _House:
    (row,) = await _HOUSE.fetch(connection)
    known = (KnownPerson(one["id"], one["name"], one["relation"]) for one in row["people"])
    visits = (planned_visit(ExpectedVisit.FromString(one["body"])) for one in row["visits"])
    notes = SiteNotes.FromString(row["site_notes"]).notes
    return _House(row["revision"], tuple(known), tuple(visits), tuple(notes))


def _mode(row: Record, at: datetime) -> str:
    stored = None
    if row["changed_at"] is not None:
        stored = StoredModeChange(row["changed_at"], row["mode"], row["source"])
    schedule = None if row["since"] is None else weekly_schedule(row["since"], row["body"])
    latest = latest_change(at, stored, schedule)
    return latest.mode_at(at) if latest else ""


def _arrived(house: _House, present: Sequence[UUID], before: Sequence[UUID]) -> tuple[UUID, ...]:
    """Those who were not present before, are known and not unwelcome."""
    if not present:
        return ()
    welcome = {person.id for person in house.people if person.relation != UNWELCOME}
    return tuple(id for id in present if id in welcome and id not in before)
