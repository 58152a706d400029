"""Protobuf messages of the house from its rows, and the domain's objects from stored messages."""

from datetime import date, datetime, time
from functools import lru_cache
from zoneinfo import ZoneInfo

from lares.store.v1.house_pb2 import (
    ExpectedVisit,
    HouseMode,
    ModeChange,
    ModeSchedule,
    Person,
    PresenceReport,
)
from store_svc.database.statement import Row
from store_svc.domain.expected_visit import PlannedVisit
from store_svc.domain.mode import StoredModeChange, WeeklyChange, WeeklySchedule
from store_svc.times import stamp

MAX_SCHEDULES = 64  # that are kept parsed: those of the capture times that are looked up now


def mode_change_message(change: StoredModeChange) -> ModeChange:
    return ModeChange(
        at=stamp(change.at),
        mode=change.mode,
        source=change.source,  # type: ignore[arg-type]
        changed_by=change.changed_by,
    )


def house_mode_message(
    at: datetime, latest: StoredModeChange | None, following: StoredModeChange | None
) -> HouseMode:
    message = HouseMode(
        mode=latest.mode_at(at) if latest else "",
        latest=mode_change_message(latest) if latest else None,
        next=mode_change_message(following) if following else None,
    )
    if latest and latest.lapses_at:
        message.lapses_at.CopyFrom(stamp(latest.lapses_at))
    return message


@lru_cache(MAX_SCHEDULES)
def weekly_schedule(since: datetime, body: bytes) -> WeeklySchedule:
    """From a row of the table `mode_schedules`."""
    message = ModeSchedule.FromString(body)
    changes = tuple(
        WeeklyChange(change.weekday, time.fromisoformat(change.time), change.mode)
        for change in message.changes
    )
    return WeeklySchedule(since, ZoneInfo(message.time_zone), changes)


def person_message(row: Row) -> Person:
    return Person(
        id=str(row["id"]),
        name=row["name"],
        relation=row["relation"],
        created_at=stamp(row["created_at"]),
        updated_at=stamp(row["updated_at"]),
    )


def presence_message(row: Row) -> PresenceReport:
    return PresenceReport(
        person_id=str(row["person_id"]),
        present=row["present"],
        reported_at=stamp(row["reported_at"]),
        key_id=row["key_id"],
        reported_by=row["reported_by"],
    )


def planned_visit(message: ExpectedVisit) -> PlannedVisit:
    """From a message whose times, dates and zone are valid: those that are stored."""
    return PlannedVisit(
        id=message.id,
        name=message.name,
        labels=tuple(message.labels),
        camera_ids=frozenset(message.camera_ids),
        zone_ids=tuple(message.zone_ids),
        weekdays=frozenset(message.weekdays),
        start=time.fromisoformat(message.from_time or "00:00"),
        end=time.fromisoformat(message.to_time or "00:00"),
        first_day=date.fromisoformat(message.from_date) if message.from_date else None,
        last_day=date.fromisoformat(message.until_date) if message.until_date else None,
        zone=ZoneInfo(message.time_zone),
    )
