"""What Lares is told about the home before the first photo arrives, while it may be killed.

All of it is the same in every run, and none of it depends on when a run begins: the photos to which it
matters are captured after all runs, or just before them. So the mode at a capture time follows from the
schedule, and from the modes that are set during a run.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import NAMESPACE_OID, uuid5

import grpc

from lares.reason.v1.evidence_pb2 import RELATION_RESIDENT
from lares.scene.v1.scene_pb2 import ZONE_KIND_PRIVATE, ZONE_KIND_PUBLIC, Line, Point, Zone, ZoneKind
from lares.store.v1 import camera_service_pb2_grpc as cameras_rpc
from lares.store.v1 import house_service_pb2 as house
from lares.store.v1.camera_pb2 import Camera
from lares.store.v1.camera_service_pb2 import CreateCameraRequest
from lares.store.v1.house_pb2 import ExpectedVisit, ModeSchedule, ScheduledMode, SiteNote, SiteNotes, Weekday
from lares.store.v1.house_service_pb2_grpc import HouseServiceStub
from tests.kills.amendments import backdated
from tests.kills.persistent_calls import persist
from tests.kills.scenario import DRIVE_CAMERA, GATE_CAMERA, HOUR, LONG_CAMERA
from tests.support.home_database import home_database
from tests.support.lares import Lares
from tests.support.places import where_it_is_noon

PERSON_ID, VISIT_ID = uuid5(NAMESPACE_OID, "person"), uuid5(NAMESPACE_OID, "visit")
# The mode at first, those that are set during a run, and those of the schedule. None is set twice: evidence
# that was assessed before would come again, and in some runs only.
AT_FIRST, AMENDED, SCHEDULED = "out", ("guests", "errand", "away"), ("night", "home")
ARRIVES_AFTER = 600.0
CONFIGURE_SECONDS = 240.0


@dataclass(frozen=True)
class Household:
    """`start` is a full hour, and lies ahead of all runs; `began` is a moment before them.

    The schedule changes the mode one and two hours after it, on every day of the week. Within the first of
    these hours somebody is expected at the gate, and a person of the house comes home.
    """

    began: float
    start: float

    def mode_at(self, captured_at: float) -> str:
        """The mode at this capture time, once a run is over. None was set long before it began."""
        if captured_at < self.began:
            return ""
        hours = int((captured_at - self.start) // HOUR)
        return SCHEDULED[min(hours, len(SCHEDULED)) - 1] if hours >= 1 else AMENDED[-1]

    async def tell(self, lares: Lares) -> None:
        """Tells Lares all of it, and again after each kill, until it has confirmed all of it."""
        async with asyncio.timeout(CONFIGURE_SECONDS):
            await persist(lambda: self._try(lares))

    async def _try(self, lares: Lares) -> bool:
        metadata = (("x-api-key", lares.key),)
        async with lares.grpc_channel() as channel:
            cameras, home = cameras_rpc.CameraServiceStub(channel), HouseServiceStub(channel)
            for camera in (LONG_CAMERA, DRIVE_CAMERA, GATE_CAMERA):
                await self._create_camera(cameras, camera, metadata)
            known = (await home.ListPeople(house.ListPeopleRequest(), metadata=metadata, timeout=5)).people
            if known:
                person = known[0]
            else:
                new = house.CreatePersonRequest(name="Ada", relation=RELATION_RESIDENT)
                person = (await home.CreatePerson(new, metadata=metadata, timeout=5)).person
            present = house.ReportPresenceRequest(person_id=person.id, present=True)
            await home.ReportPresence(present, metadata=metadata, timeout=5)
            visits = house.ListExpectedVisitsRequest()
            if not (await home.ListExpectedVisits(visits, metadata=metadata, timeout=5)).visits:
                visit = house.CreateExpectedVisitRequest(visit=self._visit())
                await home.CreateExpectedVisit(visit, metadata=metadata, timeout=5)
            await self._replace_what_differs(lares)
            notes = SiteNotes(
                notes=[SiteNote(text="The postman has a key."), SiteNote(text="A dog lives here.")]
            )
            await home.SetSiteNotes(house.SetSiteNotesRequest(site_notes=notes), metadata=metadata, timeout=5)
            schedule = house.SetModeScheduleRequest(schedule=self._schedule())
            await home.SetModeSchedule(schedule, metadata=metadata, timeout=5)
            mode = house.SetModeRequest(mode=AT_FIRST, at=backdated())
            await home.SetMode(mode, metadata=metadata, timeout=5)
        assert datetime.now(UTC).timestamp() < self.start, (
            "the run has taken too long: its photos are not ahead"
        )
        return True

    async def _replace_what_differs(self, lares: Lares) -> None:
        """Gives the person, the visit and the report of presence the same ids and the same time in every run.

        The store draws the ids at random and takes the time from its clock, and evidence has, or depends on,
        all of them. No event has them yet.
        """
        reported_at = datetime.fromtimestamp(self.start + ARRIVES_AFTER, UTC)
        async with home_database(lares.home) as connection, connection.transaction():
            await connection.execute("UPDATE people SET id = $1", PERSON_ID)
            report = "UPDATE presence_reports SET person_id = $1, reported_at = $2"
            await connection.execute(report, PERSON_ID, reported_at)
            visit = ExpectedVisit.FromString(await connection.fetchval("SELECT body FROM expected_visits"))
            visit.id = str(VISIT_ID)
            body = visit.SerializeToString(deterministic=True)
            await connection.execute("UPDATE expected_visits SET id = $1, body = $2", VISIT_ID, body)
            await connection.execute("UPDATE house SET revision = revision + 1")

    async def _create_camera(
        self,
        cameras: "cameras_rpc.CameraServiceAsyncStub",
        camera_id: str,
        metadata: tuple[tuple[str, str], ...],
    ) -> None:
        """Creates a camera with two zones, the halves of its picture, and the line between them, where it is
        day: in the dark no vehicle is missed."""
        noon = datetime.fromtimestamp(self.start + 1.5 * HOUR, UTC)
        camera = Camera(
            id=camera_id,
            time_zone=where_it_is_noon(noon),
            zones=[_zone("street", ZONE_KIND_PUBLIC, 0.0, 0.5), _zone("garden", ZONE_KIND_PRIVATE, 0.5, 1.0)],
            lines=[Line(id="fence", name="fence", start=Point(x=0.5, y=1), end=Point(x=0.5, y=0))],
        )
        try:
            await cameras.CreateCamera(CreateCameraRequest(camera=camera), metadata=metadata, timeout=5)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.ALREADY_EXISTS:
                raise

    def _visit(self) -> ExpectedVisit:
        return ExpectedVisit(
            name="the postman",
            labels=["person"],
            camera_ids=[GATE_CAMERA],
            from_time=self._clock(0),
            to_time=self._clock(1),
            time_zone="UTC",
        )

    def _schedule(self) -> ModeSchedule:
        return ModeSchedule(
            time_zone="UTC",
            changes=[
                ScheduledMode(weekday=weekday, time=self._clock(place + 1), mode=mode)
                for weekday in Weekday.values()
                if weekday
                for place, mode in enumerate(SCHEDULED)
            ],
        )

    def _clock(self, hours: int) -> str:
        return datetime.fromtimestamp(self.start + hours * HOUR, UTC).strftime("%H:%M")


def _zone(id: str, kind: ZoneKind.ValueType, left: float, right: float) -> Zone:
    corners = [(left, 0.0), (right, 0.0), (right, 1.0), (left, 1.0)]
    return Zone(id=id, name=id, kind=kind, polygon=[Point(x=x, y=y) for x, y in corners])
