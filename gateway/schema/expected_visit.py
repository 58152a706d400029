# mypy: disable-error-code="untyped-decorator"
# (Strawberry's decorators are typed as Any if they are given a description.)
"""The visits that the house expects, and notes about the home."""

from typing import Any

import strawberry
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info
from gateway.schema.message_fields import message_field, to_list
from gateway.schema.mode import Weekday
from lares.store.v1 import house_pb2, house_service_pb2
from mesh.problems import Invalid
from mesh.rpc import call

LABELS = "What is expected, by any name of the label. Empty: people."
CAMERAS = "Empty: all."
ZONES = "Where in the picture. Empty: everywhere."
WEEKDAYS = "Empty: every day. After midnight it is the day on which the visit begins that counts."
FROM = "What the clock on the wall shows, `HH:MM`. Both times empty: all day."
TO = "Exclusive. Earlier than `fromTime`: after midnight."
FIRST_DAY = "`YYYY-MM-DD`, inclusive. Empty: without a limit."
TIME_ZONE = "An IANA name; empty means LARES_TIME_ZONE as it is now."


def _or_none(text: str) -> str | None:
    return text or None


@strawberry.type(name="ExpectedVisit", description="Somebody, or something, that the house expects.")
class HouseVisit:
    message: strawberry.Private[house_pb2.ExpectedVisit]
    id: strawberry.ID = message_field("id")
    name: str = message_field("name")
    labels: list[str] = message_field("labels", to_list, description=LABELS)
    camera_ids: list[strawberry.ID] = message_field("camera_ids", to_list, description=CAMERAS)
    zone_ids: list[strawberry.ID] = message_field("zone_ids", to_list, description=ZONES)
    weekdays: list[Weekday] = message_field("weekdays", to_list, description=WEEKDAYS)
    from_time: str | None = message_field("from_time", _or_none, description=FROM)
    to_time: str | None = message_field("to_time", _or_none, description=TO)
    from_date: str | None = message_field("from_date", _or_none, description=FIRST_DAY)
    until_date: str | None = message_field("until_date", _or_none, description=FIRST_DAY)
    time_zone: str = message_field("time_zone", description="An IANA name.")
    created_at: Timestamp = message_field("created_at")
    updated_at: Timestamp = message_field("updated_at")


@strawberry.type(description="What a language model should know about the home. The rules read no notes.")
class SiteNote:
    message: strawberry.Private[house_pb2.SiteNote]
    text: str = message_field("text")
    camera_id: strawberry.ID | None = message_field(
        "camera_id", _or_none, description="Null: it is about the whole home."
    )


@strawberry.input
class CreateExpectedVisitInput:
    name: str = strawberry.field(description="One line, at most 200 characters.")
    labels: list[str] = strawberry.field(default_factory=list, description=LABELS)
    camera_ids: list[strawberry.ID] = strawberry.field(default_factory=list, description=CAMERAS)
    zone_ids: list[strawberry.ID] = strawberry.field(default_factory=list, description=ZONES)
    weekdays: list[Weekday] = strawberry.field(default_factory=list, description=WEEKDAYS)
    from_time: str = strawberry.field(default="", description=FROM)
    to_time: str = strawberry.field(default="", description=TO)
    from_date: str = strawberry.field(default="", description=FIRST_DAY)
    until_date: str = strawberry.field(default="", description=FIRST_DAY)
    time_zone: str = strawberry.field(default="", description=TIME_ZONE)


@strawberry.input(description="What is absent or null stays as it is.")
class UpdateExpectedVisitInput:
    id: strawberry.ID
    name: str | None = None
    labels: list[str] | None = strawberry.field(default=None, description=LABELS)
    camera_ids: list[strawberry.ID] | None = strawberry.field(default=None, description=CAMERAS)
    zone_ids: list[strawberry.ID] | None = strawberry.field(default=None, description=ZONES)
    weekdays: list[Weekday] | None = strawberry.field(default=None, description=WEEKDAYS)
    from_time: str | None = strawberry.field(default=None, description=FROM)
    to_time: str | None = strawberry.field(default=None, description=TO)
    from_date: str | None = strawberry.field(default=None, description=FIRST_DAY)
    until_date: str | None = strawberry.field(default=None, description=FIRST_DAY)
    time_zone: str | None = strawberry.field(default=None, description=TIME_ZONE)


@strawberry.input
class SiteNoteInput:
    text: str = strawberry.field(description="One line, at most 500 characters.")
    camera_id: strawberry.ID | None = strawberry.field(
        default=None, description="Null: it is about the whole home."
    )


@strawberry.type
class ExpectedVisitPayload:
    expected_visit: HouseVisit


@strawberry.type
class DeleteExpectedVisitPayload:
    id: strawberry.ID


@strawberry.type
class SetSiteNotesPayload:
    site_notes: list[SiteNote]


async def list_expected_visits(info: Info) -> list[HouseVisit]:
    request = house_service_pb2.ListExpectedVisitsRequest()
    response = await call(info.context.siblings.house.ListExpectedVisits, request)
    return [HouseVisit(message=visit) for visit in response.visits]


async def create_expected_visit(info: Info, input: CreateExpectedVisitInput) -> ExpectedVisitPayload:
    visit = house_pb2.ExpectedVisit(**_given_fields(input))
    request = house_service_pb2.CreateExpectedVisitRequest(visit=visit)
    response = await call(info.context.siblings.house.CreateExpectedVisit, request)
    return ExpectedVisitPayload(expected_visit=HouseVisit(message=response.visit))


async def update_expected_visit(info: Info, input: UpdateExpectedVisitInput) -> ExpectedVisitPayload:
    """Raises Invalid NOTHING_TO_UPDATE, and what the store raises."""
    fields = _given_fields(input)
    if not fields:
        raise Invalid("give at least one field", "NOTHING_TO_UPDATE")
    request = house_service_pb2.UpdateExpectedVisitRequest(
        visit=house_pb2.ExpectedVisit(id=input.id, **fields), update_mask=FieldMask(paths=fields)
    )
    response = await call(info.context.siblings.house.UpdateExpectedVisit, request)
    return ExpectedVisitPayload(expected_visit=HouseVisit(message=response.visit))


async def delete_expected_visit(info: Info, id: strawberry.ID) -> DeleteExpectedVisitPayload:
    request = house_service_pb2.DeleteExpectedVisitRequest(visit_id=id)
    await call(info.context.siblings.house.DeleteExpectedVisit, request)
    return DeleteExpectedVisitPayload(id=id)


async def list_site_notes(info: Info) -> list[SiteNote]:
    request = house_service_pb2.GetSiteNotesRequest()
    return _notes((await call(info.context.siblings.house.GetSiteNotes, request)).site_notes)


async def set_site_notes(info: Info, notes: list[SiteNoteInput]) -> SetSiteNotesPayload:
    given = house_pb2.SiteNotes()
    for note in notes:
        given.notes.add(text=note.text, camera_id=note.camera_id or "")
    request = house_service_pb2.SetSiteNotesRequest(site_notes=given)
    response = await call(info.context.siblings.house.SetSiteNotes, request)
    return SetSiteNotesPayload(site_notes=_notes(response.site_notes))


def _notes(message: house_pb2.SiteNotes) -> list[SiteNote]:
    return [SiteNote(message=note) for note in message.notes]


def _given_fields(input: CreateExpectedVisitInput | UpdateExpectedVisitInput) -> dict[str, Any]:
    """The fields of an ExpectedVisit message, by name, without those that are null."""
    values: dict[str, Any] = {
        "name": input.name,
        "labels": input.labels,
        "camera_ids": input.camera_ids,
        "zone_ids": input.zone_ids,
        "weekdays": None if input.weekdays is None else [day.value for day in input.weekdays],
        "from_time": input.from_time,
        "to_time": input.to_time,
        "from_date": input.from_date,
        "until_date": input.until_date,
        "time_zone": input.time_zone,
    }
    return {name: value for name, value in values.items() if value is not None}
