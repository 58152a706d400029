# mypy: disable-error-code="untyped-decorator"
# (Strawberry's decorators are typed as Any if they are given a description.)
"""The people whom the house knows, and who of them is present."""

from enum import Enum
from typing import Any

import strawberry
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info
from gateway.schema.message_fields import message_field
from gateway.schema.paging import PAGE, Connection, connect, page_size
from lares.reason.v1 import evidence_pb2
from lares.store.v1 import house_pb2, house_service_pb2
from mesh.problems import Invalid
from mesh.rpc import call


@strawberry.enum(name="Relation", description="What somebody is to the people who live here.")
class PersonRelation(Enum):
    RESIDENT = evidence_pb2.RELATION_RESIDENT
    FAMILY = evidence_pb2.RELATION_FAMILY
    FRIEND = evidence_pb2.RELATION_FRIEND
    NEIGHBOUR = evidence_pb2.RELATION_NEIGHBOUR
    STAFF = evidence_pb2.RELATION_STAFF
    UNWELCOME = evidence_pb2.RELATION_UNWELCOME


@strawberry.type(description="Somebody whom the house knows.")
class Person:
    message: strawberry.Private[house_pb2.Person]
    id: strawberry.ID = message_field("id")
    name: str = message_field("name")
    relation: PersonRelation = message_field("relation")
    created_at: Timestamp = message_field("created_at")
    updated_at: Timestamp = message_field("updated_at")


@strawberry.type(description="A report that somebody has come or gone.")
class PresenceReport:
    message: strawberry.Private[house_pb2.PresenceReport]
    person_id: strawberry.ID = message_field("person_id")
    present: bool = message_field("present")
    reported_at: Timestamp = message_field("reported_at", description="After 24 hours it lapses.")
    reported_by: str = message_field("reported_by", description="The name that the API key had then.")
    key_id: strawberry.ID = message_field("key_id", description="The id of the API key.")


@strawberry.type
class Presence:
    response: strawberry.Private[house_service_pb2.ListPresenceResponse]

    @strawberry.field(description="The latest report of everybody who is present now.")
    def present(self) -> list[PresenceReport]:
        return [PresenceReport(message=report) for report in self.response.present]

    @strawberry.field(description="All reports, newest first.")
    def reports(self) -> Connection[PresenceReport]:
        return connect(PresenceReport, self.response.reports, self.response)


@strawberry.input
class CreatePersonInput:
    name: str = strawberry.field(description="One line, at most 200 characters.")
    relation: PersonRelation


@strawberry.input(description="What is absent or null stays as it is.")
class UpdatePersonInput:
    id: strawberry.ID
    name: str | None = None
    relation: PersonRelation | None = None


@strawberry.input
class ReportPresenceInput:
    person_id: strawberry.ID
    present: bool


@strawberry.type
class PersonPayload:
    person: Person


@strawberry.type
class DeletePersonPayload:
    id: strawberry.ID


@strawberry.type
class ReportPresencePayload:
    response: strawberry.Private[house_service_pb2.ReportPresenceResponse]
    person_id: strawberry.ID
    present: bool

    @strawberry.field
    def reported_at(self) -> Timestamp:
        return self.response.reported_at

    @strawberry.field
    def lapses_at(self) -> Timestamp:
        return self.response.lapses_at


async def list_people(info: Info) -> list[Person]:
    response = await call(info.context.siblings.house.ListPeople, house_service_pb2.ListPeopleRequest())
    return [Person(message=person) for person in response.people]


async def read_presence(info: Info, first: int | None = PAGE, after: str | None = None) -> Presence:
    request = house_service_pb2.ListPresenceRequest(page_size=page_size(first), page_token=after or "")
    return Presence(response=await call(info.context.siblings.house.ListPresence, request))


async def create_person(info: Info, input: CreatePersonInput) -> PersonPayload:
    request = house_service_pb2.CreatePersonRequest(name=input.name, relation=input.relation.value)
    response = await call(info.context.siblings.house.CreatePerson, request)
    return PersonPayload(person=Person(message=response.person))


async def update_person(info: Info, input: UpdatePersonInput) -> PersonPayload:
    """Raises Invalid NOTHING_TO_UPDATE, and what the store raises."""
    relation = input.relation.value if input.relation else None
    given: dict[str, Any] = {"name": input.name, "relation": relation}
    fields = {name: value for name, value in given.items() if value is not None}
    if not fields:
        raise Invalid("give a name or a relation", "NOTHING_TO_UPDATE")
    request = house_service_pb2.UpdatePersonRequest(
        person=house_pb2.Person(id=input.id, **fields), update_mask=FieldMask(paths=fields)
    )
    response = await call(info.context.siblings.house.UpdatePerson, request)
    return PersonPayload(person=Person(message=response.person))


async def delete_person(info: Info, id: strawberry.ID) -> DeletePersonPayload:
    request = house_service_pb2.DeletePersonRequest(person_id=id)
    await call(info.context.siblings.house.DeletePerson, request)
    return DeletePersonPayload(id=id)


async def report_presence(info: Info, input: ReportPresenceInput) -> ReportPresencePayload:
    request = house_service_pb2.ReportPresenceRequest(person_id=input.person_id, present=input.present)
    response = await call(info.context.siblings.house.ReportPresence, request)
    return ReportPresencePayload(response=response, person_id=input.person_id, present=input.present)
