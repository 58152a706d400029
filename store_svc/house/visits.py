"""The visits that the house expects."""

from collections.abc import Callable, Collection, Iterable
from datetime import date, datetime
from uuid import UUID, uuid4

from google.protobuf.field_mask_pb2 import FieldMask
from sqlalchemy import delete, func, insert, select, update

from lares.store.v1.house_pb2 import ExpectedVisit
from mesh.problems import Conflict, Invalid, NotFound
from store_svc.database import Database
from store_svc.database.statement import Connection, Statement, equals, one_of, parameter
from store_svc.database.tables import cameras, expected_visits
from store_svc.domain.house import require_one_line
from store_svc.domain.wall_clock import time_zone_of
from store_svc.house.house_row import lock_and_count
from store_svc.ids import parse_uuid
from store_svc.queries.labels import find_labels
from store_svc.times import stamp

MAX_VISITS = 64  # that evidence can name
FIELDS = (
    "name", "labels", "camera_ids", "zone_ids", "weekdays", "from_time", "to_time", "from_date", "until_date",
    "time_zone",
)  # fmt: skip

_ALL = Statement(select(expected_visits.c.body).order_by(expected_visits.c.name, expected_visits.c.id))
_COUNT = Statement(select(func.count()).select_from(expected_visits))
_FIND = Statement(select(expected_visits.c.body).where(equals(expected_visits.c.id, "id")))
_ADD = Statement(insert(expected_visits).inline())
_CHANGE = Statement(
    update(expected_visits)
    .values({name: parameter(name, expected_visits.c[name]) for name in ("name", "body")})
    .where(equals(expected_visits.c.id, "visit_id"))
)
_DELETE = Statement(
    delete(expected_visits).where(equals(expected_visits.c.id, "id")).returning(expected_visits.c.id)
)
_CAMERAS = Statement(select(cameras.c.id).where(one_of(cameras.c.id, "ids"), cameras.c.deleted_at.is_(None)))


class ExpectedVisits:
    """`time_zone` is that of visits which name none."""

    def __init__(self, database: Database, time_zone: str, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._time_zone = time_zone
        self._clock = clock

    async def create(self, given: ExpectedVisit) -> ExpectedVisit:
        """Raises Conflict (TOO_MANY_VISITS), and what `update` raises of the fields."""
        visit = ExpectedVisit(id=str(uuid4()))
        _copy_fields(given, visit, FIELDS)
        await self._complete(visit)

        async def work(connection: Connection) -> None:
            await lock_and_count(connection)
            if await _COUNT.fetch_value(connection) >= MAX_VISITS:
                raise Conflict(f"there are {MAX_VISITS} visits, which is the limit", "TOO_MANY_VISITS")
            await require_cameras(connection, visit.camera_ids)
            visit.created_at.CopyFrom(stamp(self._clock()))
            visit.updated_at.CopyFrom(visit.created_at)
            await _ADD.execute(connection, id=visit.id, name=visit.name, body=_body(visit))

        await self._database.transaction(work)
        return visit

    async def update(self, given: ExpectedVisit, fields: Collection[str]) -> ExpectedVisit:
        """Changes these of FIELDS.

        Raises NotFound (VISIT_NOT_FOUND, CAMERA_NOT_FOUND), Invalid (BAD_TEXT, UNKNOWN_LABEL, BAD_VISIT_TIME,
        BAD_TIME_ZONE).
        """

        async def work(connection: Connection) -> ExpectedVisit:
            await lock_and_count(connection)
            body = await _FIND.fetch_value(connection, id=_uuid(given.id))
            if body is None:
                raise _not_found(given.id)
            visit = ExpectedVisit.FromString(body)
            _copy_fields(given, visit, fields)
            await self._complete(visit)
            if "camera_ids" in fields:
                await require_cameras(connection, visit.camera_ids)
            visit.updated_at.CopyFrom(stamp(self._clock()))
            await _CHANGE.execute(connection, visit_id=visit.id, name=visit.name, body=_body(visit))
            return visit

        return await self._database.transaction(work)

    async def delete(self, visit_id: str) -> None:
        """Raises NotFound (VISIT_NOT_FOUND)."""

        async def work(connection: Connection) -> None:
            await lock_and_count(connection)
            if await _DELETE.fetch_value(connection, id=_uuid(visit_id)) is None:
                raise _not_found(visit_id)

        await self._database.transaction(work)

    async def all(self) -> list[ExpectedVisit]:
        """By name."""
        async with self._database.connection() as connection:
            return [ExpectedVisit.FromString(row["body"]) for row in await _ALL.fetch(connection)]

    async def _complete(self, visit: ExpectedVisit) -> None:
        """Checks the visit, and fills in its time zone and the canonical names of its labels."""
        require_one_line(visit.name, "name")
        visit.labels[:] = await find_labels(self._database, visit.labels)
        visit.time_zone = time_zone_of(visit.time_zone or self._time_zone).key
        if bool(visit.from_time) != bool(visit.to_time) or (visit.from_time == visit.to_time != ""):
            raise _bad_time("from_time and to_time must differ, or both be empty")
        days = [_date(text) for text in (visit.from_date, visit.until_date) if text]
        if days != sorted(days):
            raise _bad_time("until_date is before from_date")


async def require_cameras(connection: Connection, camera_ids: Iterable[str]) -> None:
    """Raises NotFound (CAMERA_NOT_FOUND) for a camera that does not exist, or is deleted."""
    wanted = set(camera_ids)
    if not wanted:
        return
    rows = await _CAMERAS.fetch(connection, ids=list(wanted))
    if missing := sorted(wanted - {row["id"] for row in rows}):
        raise NotFound("there is no such camera", "CAMERA_NOT_FOUND", camera_id=missing[0])


def _copy_fields(given: ExpectedVisit, visit: ExpectedVisit, fields: Iterable[str]) -> None:
    FieldMask(paths=fields).MergeMessage(given, visit, True, True)


def _body(visit: ExpectedVisit) -> bytes:
    return visit.SerializeToString(deterministic=True)


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _bad_time(f"there is no day {text}") from None


def _bad_time(sentence: str) -> Invalid:
    return Invalid(sentence, "BAD_VISIT_TIME")


def _uuid(visit_id: str) -> UUID:
    try:
        return parse_uuid(visit_id)
    except ValueError:
        raise _not_found(visit_id) from None


def _not_found(visit_id: str) -> NotFound:
    return NotFound("there is no such visit", "VISIT_NOT_FOUND", visit_id=visit_id[:64])
