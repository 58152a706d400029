"""HouseService of a FakeStore."""

from collections.abc import Iterable
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from google.protobuf.field_mask_pb2 import FieldMask

from lares.reason.v1.evidence_pb2 import RELATION_UNWELCOME
from lares.store.v1 import house_pb2
from lares.store.v1 import house_service_pb2 as pb
from lares.store.v1.house_service_pb2_grpc import HouseServiceServicer
from mesh.labels import COCO_LABELS, canonical
from mesh.problems import Conflict, Exhausted, Invalid, NotFound
from mesh.security import caller
from mesh.visible_text import visible
from tests.unit.gateway.fake_pages import NOON, page, uuid

if TYPE_CHECKING:
    from tests.unit.gateway.fake_store import FakeStore

VISIT_FIELDS = (
    "name", "labels", "camera_ids", "zone_ids", "weekdays", "from_time", "to_time", "from_date", "until_date",
    "time_zone",
)  # fmt: skip


class FakeHouseServicer(HouseServiceServicer):
    def __init__(self, store: "FakeStore") -> None:
        self.store = store
        self.house = store.house

    # The mode

    async def SetMode(self, request: Any, context: Any) -> Any:
        self.store.record("SetMode", request)
        at = request.at.ToDatetime(NOON.tzinfo) if request.HasField("at") else NOON
        if not NOON - timedelta(seconds=120) <= at <= NOON:
            raise Invalid("a bad time", "BAD_MODE_TIME")
        latest = self.house.mode_changes[-1] if self.house.mode_changes else None
        if latest and latest.at.ToDatetime(NOON.tzinfo) > at:
            raise Conflict("later", "MODE_CHANGED_LATER", at=latest.at.ToDatetime(NOON.tzinfo).isoformat())
        change = house_pb2.ModeChange(
            mode=request.mode, source=house_pb2.MODE_SOURCE_MANUAL, changed_by=caller.get().name
        )
        change.at.FromDatetime(at)
        self.house.mode_changes.append(change)
        return pb.SetModeResponse(mode=self._mode())

    async def GetMode(self, request: Any, context: Any) -> Any:
        self.store.record("GetMode", request)
        if request.HasField("at") and request.at.ToDatetime(NOON.tzinfo) > NOON:
            raise Invalid("a later time", "BAD_MODE_TIME")
        return pb.GetModeResponse(mode=self._mode())

    def _mode(self) -> house_pb2.HouseMode:
        if not self.house.mode_changes:
            return house_pb2.HouseMode(next=self.house.next)
        latest = self.house.mode_changes[-1]
        mode = house_pb2.HouseMode(mode=latest.mode, latest=latest, next=self.house.next)
        if latest.mode == "home":
            lapses_at = latest.at.ToDatetime(NOON.tzinfo) + timedelta(hours=16)
            mode.lapses_at.FromDatetime(lapses_at)
            if lapses_at <= NOON:
                mode.mode = ""
        return mode

    async def ListModeChanges(self, request: Any, context: Any) -> Any:
        self.store.record("ListModeChanges", request)
        changes = self.house.mode_changes[::-1]
        chosen, tokens, following = page(
            changes, request.page_size or 50, request.page_token, _number(changes), "mode"
        )
        return pb.ListModeChangesResponse(changes=chosen, page_tokens=tokens, next_page_token=following)

    async def SetModeSchedule(self, request: Any, context: Any) -> Any:
        self.store.record("SetModeSchedule", request)
        given = request.schedule
        changes = sorted(given.changes, key=lambda change: (change.weekday, change.time))
        for one, other in pairwise(changes):
            if (one.weekday, one.time) == (other.weekday, other.time):
                raise Invalid("twice", "DUPLICATE_TIME", time=one.time)
        self.house.schedule = house_pb2.ModeSchedule(changes=changes, time_zone=_zone(given.time_zone))
        self.house.schedule_changed_by = caller.get().name
        return pb.SetModeScheduleResponse(schedule=self.house.schedule)

    async def GetModeSchedule(self, request: Any, context: Any) -> Any:
        self.store.record("GetModeSchedule", request)
        response = pb.GetModeScheduleResponse(
            schedule=self.house.schedule, changed_by=self.house.schedule_changed_by
        )
        if response.changed_by:
            response.changed_at.FromDatetime(NOON)
        return response

    # People and presence

    async def CreatePerson(self, request: Any, context: Any) -> Any:
        self.store.record("CreatePerson", request)
        _require_one_line(request.name, "name")
        person = house_pb2.Person(
            id=uuid("person", len(self.house.people)), name=request.name, relation=request.relation
        )
        person.created_at.FromDatetime(NOON)
        person.updated_at.FromDatetime(NOON)
        self.house.people[person.id] = person
        return pb.CreatePersonResponse(person=person)

    async def UpdatePerson(self, request: Any, context: Any) -> Any:
        self.store.record("UpdatePerson", request)
        fields = _fields(request.update_mask, ("name", "relation"))
        if "relation" in fields and not request.person.relation:
            raise Invalid("no relation", "BAD_REQUEST")
        if "name" in fields:
            _require_one_line(request.person.name, "name")
        person = self._person(request.person.id)
        FieldMask(paths=fields).MergeMessage(request.person, person, True, True)
        person.updated_at.FromDatetime(NOON)
        return pb.UpdatePersonResponse(person=person)

    async def DeletePerson(self, request: Any, context: Any) -> Any:
        self.store.record("DeletePerson", request)
        del self.house.people[self._person(request.person_id).id]
        return pb.DeletePersonResponse()

    async def ListPeople(self, request: Any, context: Any) -> Any:
        self.store.record("ListPeople", request)
        return pb.ListPeopleResponse(people=_by_name(self.house.people.values()))

    def _person(self, id: str) -> house_pb2.Person:
        if id not in self.house.people:
            raise NotFound("no such person", "PERSON_NOT_FOUND", person_id=id)
        return self.house.people[id]

    async def ReportPresence(self, request: Any, context: Any) -> Any:
        self.store.record("ReportPresence", request)
        who = caller.get()
        if sum(report.key_id == who.id for report in self.house.reports) >= 30:
            raise Exhausted("too many", "TOO_MANY_REPORTS", retry_after_seconds="60.000")
        if self._person(request.person_id).relation == RELATION_UNWELCOME:
            raise Conflict("unwelcome", "PERSON_UNWELCOME")
        report = house_pb2.PresenceReport(
            person_id=request.person_id, present=request.present, key_id=who.id, reported_by=who.name
        )
        report.reported_at.FromDatetime(NOON)
        self.house.reports.append(report)
        response = pb.ReportPresenceResponse(reported_at=report.reported_at)
        response.lapses_at.FromDatetime(NOON + timedelta(hours=24))
        return response

    async def ListPresence(self, request: Any, context: Any) -> Any:
        self.store.record("ListPresence", request)
        reports = self.house.reports[::-1]
        latest = {report.person_id: report for report in self.house.reports}
        present = [
            report
            for id, report in sorted(latest.items())
            if report.present
            and id in self.house.people
            and self.house.people[id].relation != RELATION_UNWELCOME
        ]
        chosen, tokens, following = page(
            reports, request.page_size or 50, request.page_token, _number(reports), "presence"
        )
        return pb.ListPresenceResponse(
            present=present, reports=chosen, page_tokens=tokens, next_page_token=following
        )

    # Visits and notes

    async def CreateExpectedVisit(self, request: Any, context: Any) -> Any:
        self.store.record("CreateExpectedVisit", request)
        visit = house_pb2.ExpectedVisit(id=uuid("visit", len(self.house.visits)))
        FieldMask(paths=VISIT_FIELDS).MergeMessage(request.visit, visit, True, True)
        self._check(visit)
        visit.created_at.FromDatetime(NOON)
        visit.updated_at.FromDatetime(NOON)
        self.house.visits[visit.id] = visit
        return pb.CreateExpectedVisitResponse(visit=visit)

    async def UpdateExpectedVisit(self, request: Any, context: Any) -> Any:
        self.store.record("UpdateExpectedVisit", request)
        fields = _fields(request.update_mask, VISIT_FIELDS)
        visit = house_pb2.ExpectedVisit()
        visit.CopyFrom(self._visit(request.visit.id))
        FieldMask(paths=fields).MergeMessage(request.visit, visit, True, True)
        self._check(visit)
        visit.updated_at.FromDatetime(NOON)
        self.house.visits[visit.id] = visit
        return pb.UpdateExpectedVisitResponse(visit=visit)

    async def DeleteExpectedVisit(self, request: Any, context: Any) -> Any:
        self.store.record("DeleteExpectedVisit", request)
        del self.house.visits[self._visit(request.visit_id).id]
        return pb.DeleteExpectedVisitResponse()

    async def ListExpectedVisits(self, request: Any, context: Any) -> Any:
        self.store.record("ListExpectedVisits", request)
        return pb.ListExpectedVisitsResponse(visits=_by_name(self.house.visits.values()))

    def _visit(self, id: str) -> house_pb2.ExpectedVisit:
        if id not in self.house.visits:
            raise NotFound("no such visit", "VISIT_NOT_FOUND", visit_id=id)
        return self.house.visits[id]

    def _check(self, visit: house_pb2.ExpectedVisit) -> None:
        _require_one_line(visit.name, "name")
        visit.labels[:] = list(dict.fromkeys(map(canonical, visit.labels)))
        if unknown := sorted(set(visit.labels) - set(COCO_LABELS)):
            raise Invalid("unknown", "UNKNOWN_LABEL", label=unknown[0])
        visit.time_zone = _zone(visit.time_zone)
        times = (visit.from_time, visit.to_time)
        if times != ("", "") and ("" in times or times[0] == times[1]):
            raise Invalid("bad times", "BAD_VISIT_TIME")
        if visit.until_date and visit.from_date > visit.until_date:
            raise Invalid("bad dates", "BAD_VISIT_TIME")
        self._require_cameras(visit.camera_ids)

    def _require_cameras(self, ids: Iterable[str]) -> None:
        known = self.store.cameras.keys() - self.store.deleted_cameras
        if missing := sorted(set(ids) - known):
            raise NotFound("no such camera", "CAMERA_NOT_FOUND", camera_id=missing[0])

    async def SetSiteNotes(self, request: Any, context: Any) -> Any:
        self.store.record("SetSiteNotes", request)
        for note in request.site_notes.notes:
            _require_one_line(note.text, "text")
        self._require_cameras(note.camera_id for note in request.site_notes.notes if note.camera_id)
        self.house.notes = request.site_notes
        return pb.SetSiteNotesResponse(site_notes=self.house.notes)

    async def GetSiteNotes(self, request: Any, context: Any) -> Any:
        self.store.record("GetSiteNotes", request)
        return pb.GetSiteNotesResponse(site_notes=self.house.notes)


def _require_one_line(text: str, field: str) -> None:
    if visible(text) != text or not text.strip():
        raise Invalid("not one line", "BAD_TEXT", field=field)


def _zone(name: str) -> str:
    if name == "Europe/Atlantis":
        raise Invalid("no such zone", "BAD_TIME_ZONE", field="time_zone")
    return name or "UTC"


def _fields(mask: FieldMask, known: Iterable[str]) -> list[str]:
    paths = set(mask.paths)
    if not paths or paths == {"*"}:
        return list(known)
    if paths - set(known):
        raise Invalid("no such fields", "BAD_FIELD_MASK")
    return sorted(paths)


def _by_name(messages: Iterable[Any]) -> list[Any]:
    return sorted(messages, key=lambda message: (message.name, message.id))


def _number(items: list[Any]) -> Any:
    """The place of an item, counted from the oldest: the items have no ids."""
    return lambda item: len(items) - next(n for n, one in enumerate(items) if one is item)
