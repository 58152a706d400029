"""Reads and writes the tables `uploads` and `upload_parts`: how far uploads have come.

Who receives an upload holds its lease. Each begin gives the upload a new token, so that what an earlier
receiver still sends changes nothing. A transaction that begins uploads, or lets them grow, holds the lock of
their camera, so that the camera's quota holds. Times are of the database's clock, as those of leases.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    Text,
    and_,
    delete,
    exists,
    func,
    insert,
    literal,
    not_,
    or_,
    select,
    update,
)

from mesh.problems import Conflict, Exhausted
from store_svc.database import Database
from store_svc.database.statement import Connection, Record, Statement, equals, one_of, parameter
from store_svc.database.tables import TIME, leases, upload_parts, uploads
from store_svc.leases import is_over, remove_leases, take_lease

# With which nobody has gone on for so long, it is forgotten. Before that, and after the second time, it gives
# way to others of its camera that need its space, the oldest first.
KEPT = timedelta(days=1)
GIVES_WAY = timedelta(hours=1)
# The first key of the advisory locks on the uploads of cameras.
CAMERA_LOCKS = 0x1A7E8

_now = func.clock_timestamp()
_token = equals(uploads.c.lease_token, "token")
_is_arriving = exists().where(leases.c.token == uploads.c.lease_token, not_(is_over()))
_is_expired = and_(uploads.c.written_at <= _now - KEPT, not_(_is_arriving))
_of_caller = and_(
    equals(uploads.c.camera_id, "camera_id"),
    equals(uploads.c.caller_id, "caller_id"),
    equals(uploads.c.sha256, "sha256"),
)

_LOCK_CAMERA = Statement(
    select(func.pg_advisory_xact_lock(literal(CAMERA_LOCKS), func.hashtext(parameter("camera_id", Text))))
)
_OF_CAMERA = Statement(
    select(
        uploads,
        _is_arriving.label("arriving"),
        _is_expired.label("expired"),
        (uploads.c.written_at <= _now - GIVES_WAY).label("idle"),
    )
    .where(equals(uploads.c.camera_id, "camera_id"))
    .order_by(uploads.c.written_at)
)
_FIND = Statement(select(uploads.c.received_bytes, uploads.c.written_at).where(_of_caller, not_(_is_expired)))
_PARTS = Statement(
    select(upload_parts.c.name, upload_parts.c.size_bytes)
    .where(equals(upload_parts.c.upload_id, "id"))
    .order_by(upload_parts.c.start)
)
_INSERT = Statement(
    insert(uploads)
    .values(
        id=parameter("id", uploads.c.id),
        caller_id=parameter("caller_id", Text),
        camera_id=parameter("camera_id", Text),
        sha256=parameter("sha256", Text),
        size_bytes=parameter("size_bytes", BigInteger),
        received_bytes=0,
        arrived_at=func.coalesce(parameter("arrived_at", TIME), _now),
        written_at=_now,
        lease_token=parameter("token", BigInteger),
    )
    .returning(uploads.c.arrived_at)
)
_CONTINUE = Statement(
    update(uploads)
    .values(size_bytes=parameter("size_bytes", BigInteger), lease_token=parameter("token", BigInteger))
    .where(equals(uploads.c.id, "id"))
)
_RESERVE = Statement(update(uploads).values(size_bytes=parameter("size_bytes", BigInteger)).where(_token))
_BY_TOKEN = Statement(select(uploads).where(_token))


def _add_part() -> Statement:
    start, size = parameter("start", BigInteger), parameter("size_bytes", BigInteger)
    grown = (
        update(uploads)
        .values(received_bytes=start + size, written_at=_now)
        .where(_token, uploads.c.received_bytes == start)
        .returning(uploads.c.id)
        .cte("grown")
    )
    part = select(grown.c.id, start, parameter("name", Text), size)
    return Statement(
        insert(upload_parts)
        .from_select(["upload_id", "start", "name", "size_bytes"], part)
        .returning(upload_parts.c.upload_id)
    )


_ADD_PART = _add_part()
_HAS_PART = Statement(
    select(uploads.c.id)
    .join_from(uploads, upload_parts, upload_parts.c.upload_id == uploads.c.id)
    .where(_token, equals(upload_parts.c.start, "start"), equals(upload_parts.c.name, "name"))
)
_NAME = Statement(
    update(uploads)
    .values(sha256=parameter("sha256", Text), arrived_at=parameter("arrived_at", TIME))
    .where(_token)
)
_REMOVE = Statement(delete(uploads).where(one_of(uploads.c.id, "ids")))
_REMOVE_PARTS = Statement(delete(upload_parts).where(one_of(upload_parts.c.upload_id, "ids")))
_EXPIRED = Statement(
    select(uploads.c.id, uploads.c.lease_token)
    .where(or_(_is_expired, and_(uploads.c.sha256.is_(None), not_(_is_arriving))))
    .with_for_update(skip_locked=True)
)
_LEFT = Statement(select(uploads.c.id).where(one_of(uploads.c.id, "ids")))


@dataclass(frozen=True)
class UploadBegin:
    """What BeginUpload asks for."""

    caller_id: str
    camera_id: str
    sha256: str
    size: int
    offset: int
    quota: int
    holder: str
    lease_length: timedelta


@dataclass(frozen=True)
class StartedUpload:
    """`parts` are rows with a `name` and `size_bytes`, in their order."""

    id: UUID
    token: int
    parts: Sequence[Record]
    arrived_at: datetime
    forgotten: list[UUID]


class UploadTable:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, asked: UploadBegin) -> StartedUpload:
        """Raises Exhausted (UPLOAD_IN_PROGRESS, UPLOAD_QUOTA), Conflict (OFFSET_MISMATCH)."""
        return await self._database.transaction(lambda connection: _begin(connection, asked))

    async def reserve(self, token: int, size: int, quota: int) -> list[UUID]:
        """Returns the uploads that have given way. Raises Exhausted (UPLOAD_QUOTA), Conflict
        (UPLOAD_TAKEN_OVER)."""

        async def work(connection: Connection) -> list[UUID]:
            upload = await _received(connection, token)
            others = await _others(connection, upload["camera_id"], upload["id"])
            forgotten = await _make_room(connection, upload["camera_id"], others, size, quota)
            await _RESERVE.execute(connection, token=token, size_bytes=size)
            return forgotten

        return await self._database.transaction(work)

    async def add_part(self, token: int, start: int, name: str, size: int) -> None:
        """Raises Conflict (UPLOAD_TAKEN_OVER)."""
        async with self._database.connection() as connection:
            part = {"token": token, "start": start, "name": name}
            if await _ADD_PART.fetch_value(connection, **part, size_bytes=size) is None and (
                await _HAS_PART.fetch_value(connection, **part) is None
            ):
                raise _taken_over()

    async def name(self, token: int, sha256: str) -> datetime:
        """Tells the content, and returns when it first arrived. Raises Conflict (UPLOAD_TAKEN_OVER)."""

        async def work(connection: Connection) -> datetime:
            upload = await _received(connection, token)
            same = [
                row
                for row in await _others(connection, upload["camera_id"], upload["id"])
                if (row["caller_id"], row["sha256"]) == (upload["caller_id"], sha256)
            ]
            arrived_at: datetime = upload["arrived_at"]
            for row in same:
                arrived_at = arrived_at if row["expired"] else min(arrived_at, row["arrived_at"])
                if row["arriving"]:  # over another connection, which will do the same
                    return arrived_at
            await _forget(connection, same)
            await _NAME.execute(connection, token=token, sha256=sha256, arrived_at=arrived_at)
            return arrived_at

        return await self._database.transaction(work)

    async def end(self, token: int, *, keep: bool) -> None:
        """Does nothing to an upload that another has taken over."""

        async def work(connection: Connection) -> None:
            upload = await _BY_TOKEN.fetch_one(connection, token=token)
            if upload is not None and not keep:
                await _forget(connection, [upload])
            await remove_leases(connection, [token])

        await self._database.transaction(work)

    async def find(self, caller_id: str, camera_id: str, sha256: str) -> tuple[int, datetime | None]:
        """How much has arrived, and until when that is kept."""
        async with self._database.connection() as connection:
            row = await _FIND.fetch_one(connection, caller_id=caller_id, camera_id=camera_id, sha256=sha256)
        if row is None or not row["received_bytes"]:
            return 0, None
        return row["received_bytes"], row["written_at"] + KEPT

    async def expire(self, ids: Sequence[UUID]) -> list[UUID]:
        """Forgets uploads with which nobody goes on. Returns which of these are left."""

        async def work(connection: Connection) -> list[UUID]:
            await _forget(connection, await _EXPIRED.fetch(connection))
            return [row["id"] for row in await _LEFT.fetch(connection, ids=list(ids))]

        return await self._database.transaction(work)


async def _begin(connection: Connection, asked: UploadBegin) -> StartedUpload:
    await _LOCK_CAMERA.execute(connection, camera_id=asked.camera_id)
    others = await _OF_CAMERA.fetch(connection, camera_id=asked.camera_id)
    found = next(
        (
            row
            for row in others
            if asked.sha256 and (row["caller_id"], row["sha256"]) == (asked.caller_id, asked.sha256)
        ),
        None,
    )
    if found is not None:
        if found["arriving"]:
            raise Exhausted("another connection sends the same upload", "UPLOAD_IN_PROGRESS")
        others = [row for row in others if row is not found]
    received = found["received_bytes"] if found is not None and not found["expired"] else 0
    if asked.offset not in (0, received):
        raise Conflict(
            f"{received} bytes of this upload have arrived, not {asked.offset}",
            "OFFSET_MISMATCH",
            received_bytes=str(received),
        )
    forgotten = await _make_room(connection, asked.camera_id, others, asked.size, asked.quota)
    if found is not None and asked.offset:
        token = await _lease(connection, found["id"], asked)
        await _CONTINUE.execute(connection, id=found["id"], size_bytes=asked.size, token=token)
        parts = await _PARTS.fetch(connection, id=found["id"])
        return StartedUpload(found["id"], token, parts, found["arrived_at"], forgotten)
    if found is not None:
        forgotten += await _forget(connection, [found])
    id = uuid4()
    token = await _lease(connection, id, asked)
    arrived_at = await _INSERT.fetch_value(
        connection,
        id=id,
        caller_id=asked.caller_id,
        camera_id=asked.camera_id,
        sha256=asked.sha256 or None,
        size_bytes=asked.size,
        arrived_at=found["arrived_at"] if found is not None and not found["expired"] else None,
        token=token,
    )
    return StartedUpload(id, token, [], arrived_at, forgotten)


async def _lease(connection: Connection, id: UUID, asked: UploadBegin) -> int:
    return await take_lease(connection, f"upload/{id}", asked.holder, asked.lease_length)


async def _received(connection: Connection, token: int) -> Record:
    """The upload that the holder of this lease receives, with its camera locked. Raises Conflict
    (UPLOAD_TAKEN_OVER)."""
    upload = await _BY_TOKEN.fetch_one(connection, token=token)
    if upload is not None:
        await _LOCK_CAMERA.execute(connection, camera_id=upload["camera_id"])
        upload = await _BY_TOKEN.fetch_one(connection, token=token)
    if upload is None:
        raise _taken_over()
    return upload


async def _others(connection: Connection, camera_id: str, id: UUID) -> list[Record]:
    return [row for row in await _OF_CAMERA.fetch(connection, camera_id=camera_id) if row["id"] != id]


async def _make_room(
    connection: Connection, camera_id: str, others: Sequence[Record], size: int, quota: int
) -> list[UUID]:
    """Forgets uploads, the oldest first, of which an upload of `size` bytes needs the space, and returns
    their ids. `others` are the camera's. Raises Exhausted (UPLOAD_QUOTA)."""
    used = sum(_bytes(row) for row in others)
    idle = [row for row in others if row["idle"] and not row["arriving"] and row["received_bytes"]]
    giving_way = list[Record]()
    while size <= quota < used + size and idle:
        giving_way.append(idle.pop(0))
        used -= _bytes(giving_way[-1])
    if used + size > quota:
        raise Exhausted(
            f"{size} bytes are needed, and uploads of this camera that are not finished take {used} of the"
            f" {quota} bytes that they may take: finish them, or wait until they expire",
            "UPLOAD_QUOTA",
            camera_id=camera_id,
            needed_bytes=str(size),
            used_bytes=str(used),
            quota_bytes=str(quota),
        )
    return await _forget(connection, giving_way)


def _bytes(row: Record) -> int:
    """What an upload takes of its camera's quota."""
    size: int = row["size_bytes"] if row["arriving"] else row["received_bytes"]
    return 0 if row["expired"] else size


async def _forget(connection: Connection, rows: Sequence[Record]) -> list[UUID]:
    ids = [row["id"] for row in rows]
    if ids:
        await _REMOVE_PARTS.execute(connection, ids=ids)
        await _REMOVE.execute(connection, ids=ids)
        await remove_leases(connection, [row["lease_token"] for row in rows])
    return ids


def _taken_over() -> Conflict:
    return Conflict("another connection has taken this upload over", "UPLOAD_TAKEN_OVER")
