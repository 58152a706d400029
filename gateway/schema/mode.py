# mypy: disable-error-code="untyped-decorator"
# (Strawberry's decorators are typed as Any if they are given a description.)
"""The mode of the house, and the schedule that changes it."""

from enum import Enum

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info
from gateway.schema.message_fields import computed_field, message_field, optional_message_field
from gateway.schema.paging import PAGE, Connection, connect, page_size
from lares.store.v1 import house_pb2, house_service_pb2
from mesh.rpc import call

MODE = "`home`, `away`, `night` or a name of your own: `[a-z0-9][a-z0-9_-]{0,62}`."


@strawberry.enum
class Weekday(Enum):
    MONDAY = house_pb2.WEEKDAY_MONDAY
    TUESDAY = house_pb2.WEEKDAY_TUESDAY
    WEDNESDAY = house_pb2.WEEKDAY_WEDNESDAY
    THURSDAY = house_pb2.WEEKDAY_THURSDAY
    FRIDAY = house_pb2.WEEKDAY_FRIDAY
    SATURDAY = house_pb2.WEEKDAY_SATURDAY
    SUNDAY = house_pb2.WEEKDAY_SUNDAY


@strawberry.enum(description="What changed the mode: somebody, or the schedule.")
class ModeSource(Enum):
    MANUAL = house_pb2.MODE_SOURCE_MANUAL
    SCHEDULE = house_pb2.MODE_SOURCE_SCHEDULE


@strawberry.type
class ModeChange:
    message: strawberry.Private[house_pb2.ModeChange]
    at: Timestamp = message_field("at")
    mode: str | None = message_field("mode", lambda mode: mode or None, description="Null: it was unset.")
    source: ModeSource = message_field("source")
    changed_by: str | None = message_field(
        "changed_by", lambda name: name or None, description="The API key; null for the schedule."
    )


@strawberry.type(description="The mode of the house at one time.")
class HouseMode:
    message: strawberry.Private[house_pb2.HouseMode]
    mode: str | None = message_field(
        "mode", lambda mode: mode or None, description="Null if none was set, or if it has lapsed."
    )
    lapsed: bool = computed_field(
        lambda message: message.latest.mode != message.mode,
        description="True for `home` that neither somebody nor the schedule has confirmed for 16 hours: it "
        "counts as unset. Other modes never lapse.",
    )
    lapses_at: Timestamp | None = optional_message_field(
        "lapses_at", description="When `home` lapses, or has lapsed; null for other modes."
    )
    latest: ModeChange | None = optional_message_field(
        "latest", of=ModeChange, description="The change that set it; null if it was never set."
    )
    next: ModeChange | None = optional_message_field(
        "next", of=ModeChange, description="The schedule's next change; null without a schedule."
    )


@strawberry.type(description="A change of the mode in every week.")
class ScheduledMode:
    message: strawberry.Private[house_pb2.ScheduledMode]
    weekday: Weekday = message_field("weekday")
    time: str = message_field(
        "time",
        description="Local time, `HH:MM`. If the clocks skip it, the mode changes when they do so; if they "
        "show it twice, at the first time.",
    )
    mode: str = message_field("mode")


@strawberry.type(
    description="The changes of the mode in every week. What somebody sets holds until the next."
)
class ModeSchedule:
    message: strawberry.Private[house_pb2.ModeSchedule]
    time_zone: str = message_field("time_zone", description="An IANA name.")
    changes: list[ScheduledMode] = message_field("changes", list_of=ScheduledMode)


@strawberry.input
class SetModeInput:
    mode: str | None = strawberry.field(description=f"{MODE} Null unsets it.")
    at: Timestamp | None = strawberry.field(
        default=None,
        description="From when on; by default from now on. At most the entry delay "
        "(LARES_ENTRY_DELAY_SECONDS) ago, and not later than now.",
    )


@strawberry.input
class ScheduledModeInput:
    weekday: Weekday
    time: str
    mode: str = strawberry.field(description=MODE)


@strawberry.input
class SetModeScheduleInput:
    changes: list[ScheduledModeInput] = strawberry.field(
        description="At most 100, each time of the week once. An empty list ends scheduling."
    )
    time_zone: str = strawberry.field(
        default="", description="An IANA name; empty means LARES_TIME_ZONE as it is now."
    )


@strawberry.type
class SetModePayload:
    mode: HouseMode = strawberry.field(description="The mode now.")


@strawberry.type
class SetModeSchedulePayload:
    mode_schedule: ModeSchedule


async def read_mode(info: Info, at: Timestamp | None = None) -> HouseMode:
    request = house_service_pb2.GetModeRequest(at=at)
    return HouseMode(message=(await call(info.context.siblings.house.GetMode, request)).mode)


async def read_mode_now(info: Info) -> HouseMode:
    return await read_mode(info)


async def list_mode_changes(
    info: Info, first: int | None = PAGE, after: str | None = None
) -> Connection[ModeChange]:
    request = house_service_pb2.ListModeChangesRequest(page_size=page_size(first), page_token=after or "")
    response = await call(info.context.siblings.house.ListModeChanges, request)
    return connect(ModeChange, response.changes, response)


async def read_mode_schedule(info: Info) -> ModeSchedule:
    request = house_service_pb2.GetModeScheduleRequest()
    response = await call(info.context.siblings.house.GetModeSchedule, request)
    return ModeSchedule(message=response.schedule)


async def set_mode(info: Info, input: SetModeInput) -> SetModePayload:
    request = house_service_pb2.SetModeRequest(mode=input.mode or "", at=input.at)
    response = await call(info.context.siblings.house.SetMode, request)
    return SetModePayload(mode=HouseMode(message=response.mode))


async def set_mode_schedule(info: Info, input: SetModeScheduleInput) -> SetModeSchedulePayload:
    schedule = house_pb2.ModeSchedule(time_zone=input.time_zone)
    for change in input.changes:
        schedule.changes.add(weekday=change.weekday.value, time=change.time, mode=change.mode)
    request = house_service_pb2.SetModeScheduleRequest(schedule=schedule)
    response = await call(info.context.siblings.house.SetModeSchedule, request)
    return SetModeSchedulePayload(mode_schedule=ModeSchedule(message=response.schedule))
