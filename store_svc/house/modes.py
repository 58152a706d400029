"""The mode of the house: its stored changes, and the schedules with the times from which they apply."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from heapq import merge
from itertools import islice, pairwise
from typing import Any, TypeAlias

from sqlalchemy import Integer, delete, insert, select, true, tuple_

from lares.store.v1.house_pb2 import HouseMode, ModeSchedule
from lares.store.v1.house_service_pb2 import GetModeScheduleResponse, ListModeChangesResponse
from mesh.problems import Conflict, Invalid
from mesh.security import current_caller
from store_svc.database import Database
from store_svc.database.statement import Connection, Record, Statement, parameter
from store_svc.database.tables import house, mode_changes, mode_schedules
from store_svc.domain.mode import (
    MANUAL,
    SCHEDULE,
    StoredModeChange,
    WeeklySchedule,
    latest_change,
)
from store_svc.domain.wall_clock import time_zone_of
from store_svc.house.amendments import EvidenceAmendments
from store_svc.house.house_messages import house_mode_message, mode_change_message, weekly_schedule
from store_svc.house.house_row import lock_house
from store_svc.queries.page_tokens import NUMBER, TIME, PageTokens
from store_svc.times import stamp

MAX_SCHEDULES = 1000  # the newest ones, whose changes are listed
_MOMENT = timedelta.resolution

_change, _schedule = mode_changes.c, mode_schedules.c
_latest = (
    select(mode_changes)
    .where(_change.at <= parameter("at", _change.at))
    .order_by(_change.at.desc(), _change.number.desc())
    .limit(1)
    .subquery()
)
_schedules = (
    select(mode_schedules)
    .where(_schedule.since <= parameter("at", _schedule.since))
    .order_by(_schedule.since.desc(), _schedule.number.desc())
)
_applying = _schedules.limit(1).subquery()
# One statement: between two, a schedule could be replaced whose last change holds.
_AT = Statement(
    select(
        *(_latest.c[name] for name in ("at", "mode", "source", "changed_by")),
        *(_applying.c[name] for name in ("since", "body")),
    ).select_from(house.outerjoin(_latest, true()).outerjoin(_applying, true()))
)
_SCHEDULES = Statement(_schedules.limit(parameter("limit", Integer)))
_PAGE = Statement(
    select(mode_changes)
    .where(
        tuple_(_change.at, _change.number)
        < tuple_(parameter("at", _change.at), parameter("number", _change.number))
    )
    .order_by(_change.at.desc(), _change.number.desc())
    .limit(parameter("limit", Integer))
)
_DROP_LATER_CHANGES = Statement(delete(mode_changes).where(_change.at > parameter("now", _change.at)))
_DROP_LATER_SCHEDULES = Statement(
    delete(mode_schedules).where(_schedule.since > parameter("now", _schedule.since))
)
_ADD_CHANGE = Statement(
    insert(mode_changes)
    .inline()
    .values(
        {name: parameter(name, _change[name]) for name in ("at", "mode", "source", "key_id", "changed_by")}
    )
)
_ADD_SCHEDULE = Statement(
    insert(mode_schedules)
    .inline()
    .values({name: parameter(name, _schedule[name]) for name in ("since", "body", "key_id", "changed_by")})
)
# A change with its place in the list; what a schedule changes has the number 0.
_Listed: TypeAlias = tuple[datetime, int, StoredModeChange]


class Modes:
    """Reads and changes the mode. `time_zone` is that of schedules which name none."""

    def __init__(
        self,
        database: Database,
        time_zone: str,
        entry_delay: timedelta,
        amendments: EvidenceAmendments,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._time_zone = time_zone
        self._entry_delay = entry_delay
        self._amendments = amendments
        self._clock = clock

    async def set(self, mode: str, at: datetime | None) -> HouseMode:
        """Sets the mode from `at` on, by default from now on, and returns the mode now.

        Raises Invalid (BAD_MODE_TIME), Conflict (MODE_CHANGED_LATER).
        """
        caller = current_caller()

        async def work(connection: Connection) -> HouseMode:
            await lock_house(connection)
            now = self._clock()
            since = at or now
            if not now - self._entry_delay <= since <= now:
                seconds = self._entry_delay.total_seconds()
                sentence = f"a mode can be set from at most {seconds:g} s ago on, and not from a later time"
                raise Invalid(sentence, "BAD_MODE_TIME")
            await _drop_later(connection, now)
            stored, _ = await _read(connection, now)
            if stored and stored.at > since:
                sentence = "the mode was set at a later time meanwhile"
                raise Conflict(sentence, "MODE_CHANGED_LATER", at=stored.at.isoformat())
            await _ADD_CHANGE.execute(
                connection,
                at=since,
                mode=mode,
                source=MANUAL,
                key_id=caller.id,
                changed_by=caller.name,
            )
            answer = await _mode_at(connection, now)
            await self._amendments.amend(connection, since)
            return answer

        answer = await self._database.transaction(work)
        self._amendments.notify()
        return answer

    async def get(self, at: datetime | None) -> HouseMode:
        """The mode at `at`, by default now. Raises Invalid (BAD_MODE_TIME) if it lies in the future."""
        now = self._clock()
        if at and at > now:
            raise Invalid("the mode of a later time is not known", "BAD_MODE_TIME")
        async with self._database.connection() as connection:
            return await _mode_at(connection, at or now)

    async def changes(self, size: int, token: str) -> ListModeChangesResponse:
        """One page, newest first. Raises Invalid (BAD_PAGE_TOKEN)."""
        tokens = PageTokens("mode changes", {"at": TIME, "number": NUMBER})
        before: tuple[datetime, int] = tokens.after(token) or (self._clock() + _MOMENT, 0)
        async with self._database.connection() as connection:
            rows = await _PAGE.fetch(connection, at=before[0], number=before[1], limit=size + 1)
            schedules = await _SCHEDULES.fetch(connection, at=before[0], limit=MAX_SCHEDULES)
        stored = [(row["at"], row["number"], _stored(row)) for row in rows]
        # A stored change wins; the last one of a schedule that was replaced is itself stored.
        known = {at for at, _, _ in stored}
        scheduled = (
            (change.at, 0, change)
            for change in _scheduled(schedules, before[0] - _MOMENT)
            if change.at not in known
        )
        listed: Iterator[_Listed] = merge(stored, scheduled, key=lambda one: one[:2], reverse=True)
        found: list[dict[str, Any]] = [
            {"at": at, "number": number, "change": change} for at, number, change in islice(listed, size + 1)
        ]
        page, page_tokens, next_page_token = tokens.cut(found, size)
        return ListModeChangesResponse(
            changes=[mode_change_message(one["change"]) for one in page],
            page_tokens=page_tokens,
            next_page_token=next_page_token,
        )

    async def set_schedule(self, schedule: ModeSchedule) -> ModeSchedule:
        """Replaces the schedule from now on and returns it with its time zone. An equal one changes nothing.

        Raises Invalid (DUPLICATE_TIME, BAD_TIME_ZONE).
        """
        kept = self._checked(schedule)
        body, caller = kept.SerializeToString(deterministic=True), current_caller()

        async def work(connection: Connection) -> None:
            await lock_house(connection)
            now = self._clock()
            await _drop_later(connection, now)
            rows = await _SCHEDULES.fetch(connection, at=now, limit=1)
            if rows and rows[0]["body"] == body:
                return
            await _keep_last_change(connection, now)
            await _ADD_SCHEDULE.execute(
                connection, since=now, body=body, key_id=caller.id, changed_by=caller.name
            )

        await self._database.transaction(work)
        return kept

    async def schedule(self) -> GetModeScheduleResponse:
        async with self._database.connection() as connection:
            rows = await _SCHEDULES.fetch(connection, at=self._clock(), limit=1)
        if not rows:
            return GetModeScheduleResponse(schedule=ModeSchedule(time_zone=self._time_zone))
        return GetModeScheduleResponse(
            schedule=ModeSchedule.FromString(rows[0]["body"]),
            changed_at=stamp(rows[0]["since"]),
            changed_by=rows[0]["changed_by"],
        )

    def _checked(self, schedule: ModeSchedule) -> ModeSchedule:
        """The schedule in the order of the week, with its time zone."""
        changes = sorted(schedule.changes, key=lambda change: (change.weekday, change.time))
        times = [(change.weekday, change.time) for change in changes]
        for one, other in pairwise(times):
            if one == other:
                raise Invalid(f"{one[1]} is there twice on one weekday", "DUPLICATE_TIME", time=one[1])
        zone = time_zone_of(schedule.time_zone or self._time_zone)
        return ModeSchedule(changes=changes, time_zone=zone.key)


async def _mode_at(connection: Connection, at: datetime) -> HouseMode:
    stored, schedule = await _read(connection, at)
    latest = latest_change(at, stored, schedule)
    return house_mode_message(at, latest, schedule.following(at) if schedule else None)


async def _read(
    connection: Connection, at: datetime
) -> tuple[StoredModeChange | None, WeeklySchedule | None]:
    """The last stored change until `at`, and the schedule that applied then."""
    (row,) = await _AT.fetch(connection, at=at)
    stored = None if row["at"] is None else _stored(row)
    return stored, None if row["since"] is None else weekly_schedule(row["since"], row["body"])


async def _drop_later(connection: Connection, now: datetime) -> None:
    """Drops what lies in the future, which a clock that was ahead has left: nobody has meant it to happen."""
    await _DROP_LATER_CHANGES.execute(connection, now=now)
    await _DROP_LATER_SCHEDULES.execute(connection, now=now)


async def _keep_last_change(connection: Connection, now: datetime) -> None:
    """Stores the last change by the schedule that ends now, if it still holds. Later times need not look at
    that schedule any more."""
    before = now - _MOMENT
    stored, schedule = await _read(connection, before)
    latest = latest_change(before, stored, schedule)
    if latest and latest is not stored:
        await _ADD_CHANGE.execute(
            connection, at=latest.at, mode=latest.mode, source=SCHEDULE, key_id="", changed_by=""
        )


def _scheduled(rows: list[Record], until: datetime) -> Iterator[StoredModeChange]:
    """What these schedules, the newest first, have changed until `until`, newest first."""
    for row in rows:
        yield from weekly_schedule(row["since"], row["body"]).backwards(until)
        until = row["since"] - _MOMENT


def _stored(row: Any) -> StoredModeChange:
    return StoredModeChange(row["at"], row["mode"], row["source"], row["changed_by"])
