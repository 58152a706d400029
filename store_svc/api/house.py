"""lares.store.v1.HouseService."""

from collections.abc import Collection

from google.protobuf.field_mask_pb2 import FieldMask

from lares.store.v1 import house_service_pb2 as pb
from lares.store.v1.house_service_pb2_grpc import HouseServiceServicer
from mesh.problems import Invalid
from store_svc.database import Database
from store_svc.house import notes, people, visits
from store_svc.house.modes import Modes
from store_svc.house.people import People
from store_svc.house.presence import PresenceReports
from store_svc.house.visits import ExpectedVisits
from store_svc.messages import bound

ALL_FIELDS = "*"


class HouseServicer(HouseServiceServicer):
    def __init__(
        self,
        database: Database,
        modes: Modes,
        known: People,
        presence: PresenceReports,
        expected: ExpectedVisits,
    ) -> None:
        self._database = database
        self._modes = modes
        self._people = known
        self._presence = presence
        self._visits = expected

    async def SetMode(self, request: pb.SetModeRequest, context: object) -> pb.SetModeResponse:
        at = bound(request.at) if request.HasField("at") else None
        return pb.SetModeResponse(mode=await self._modes.set(request.mode, at))

    async def GetMode(self, request: pb.GetModeRequest, context: object) -> pb.GetModeResponse:
        at = bound(request.at) if request.HasField("at") else None
        return pb.GetModeResponse(mode=await self._modes.get(at))

    async def ListModeChanges(
        self, request: pb.ListModeChangesRequest, context: object
    ) -> pb.ListModeChangesResponse:
        return await self._modes.changes(request.page_size or 50, request.page_token)

    async def SetModeSchedule(
        self, request: pb.SetModeScheduleRequest, context: object
    ) -> pb.SetModeScheduleResponse:
        return pb.SetModeScheduleResponse(schedule=await self._modes.set_schedule(request.schedule))

    async def GetModeSchedule(
        self, request: pb.GetModeScheduleRequest, context: object
    ) -> pb.GetModeScheduleResponse:
        return await self._modes.schedule()

    async def CreatePerson(self, request: pb.CreatePersonRequest, context: object) -> pb.CreatePersonResponse:
        person = await self._people.create(request.name, request.relation)
        return pb.CreatePersonResponse(person=person)

    async def UpdatePerson(self, request: pb.UpdatePersonRequest, context: object) -> pb.UpdatePersonResponse:
        """Raises Invalid (BAD_FIELD_MASK, BAD_REQUEST)."""
        fields = _fields(request.update_mask, people.FIELDS)
        if "relation" in fields and not request.person.relation:
            raise Invalid("person.relation must be set", "BAD_REQUEST")
        return pb.UpdatePersonResponse(person=await self._people.update(request.person, fields))

    async def DeletePerson(self, request: pb.DeletePersonRequest, context: object) -> pb.DeletePersonResponse:
        await self._people.delete(request.person_id)
        return pb.DeletePersonResponse()

    async def ListPeople(self, request: pb.ListPeopleRequest, context: object) -> pb.ListPeopleResponse:
        return pb.ListPeopleResponse(people=await self._people.all())

    async def ReportPresence(
        self, request: pb.ReportPresenceRequest, context: object
    ) -> pb.ReportPresenceResponse:
        return await self._presence.report(request.person_id, request.present)

    async def ListPresence(self, request: pb.ListPresenceRequest, context: object) -> pb.ListPresenceResponse:
        return await self._presence.reports(request.page_size or 50, request.page_token)

    async def CreateExpectedVisit(
        self, request: pb.CreateExpectedVisitRequest, context: object
    ) -> pb.CreateExpectedVisitResponse:
        return pb.CreateExpectedVisitResponse(visit=await self._visits.create(request.visit))

    async def UpdateExpectedVisit(
        self, request: pb.UpdateExpectedVisitRequest, context: object
    ) -> pb.UpdateExpectedVisitResponse:
        """Raises Invalid (BAD_FIELD_MASK)."""
        fields = _fields(request.update_mask, visits.FIELDS)
        return pb.UpdateExpectedVisitResponse(visit=await self._visits.update(request.visit, fields))

    async def DeleteExpectedVisit(
        self, request: pb.DeleteExpectedVisitRequest, context: object
    ) -> pb.DeleteExpectedVisitResponse:
        await self._visits.delete(request.visit_id)
        return pb.DeleteExpectedVisitResponse()

    async def ListExpectedVisits(
        self, request: pb.ListExpectedVisitsRequest, context: object
    ) -> pb.ListExpectedVisitsResponse:
        return pb.ListExpectedVisitsResponse(visits=await self._visits.all())

    async def SetSiteNotes(self, request: pb.SetSiteNotesRequest, context: object) -> pb.SetSiteNotesResponse:
        await notes.set_site_notes(self._database, request.site_notes)
        return pb.SetSiteNotesResponse(site_notes=request.site_notes)

    async def GetSiteNotes(self, request: pb.GetSiteNotesRequest, context: object) -> pb.GetSiteNotesResponse:
        return pb.GetSiteNotesResponse(site_notes=await notes.get_site_notes(self._database))


def _fields(mask: FieldMask, known: Collection[str]) -> Collection[str]:
    """The fields that a mask names; without a mask all of them. Raises Invalid (BAD_FIELD_MASK) if a path is
    not a field, or if `*` is not the only path."""
    paths = set(mask.paths)
    if not paths or paths == {ALL_FIELDS}:
        return known
    if unknown := sorted(paths.difference(known)):
        raise Invalid(f"the mask names fields that cannot be changed: {', '.join(unknown)}", "BAD_FIELD_MASK")
    return sorted(paths)
