"""Requests for renditions: each is made once, however many ask for it."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, literal, select, update

from lares.store.internal.v1.job_service_pb2 import RenderInput
from lares.store.v1.rendition_pb2 import Rendition
from mesh.blobs import Blobs
from mesh.identity import rendition_id
from mesh.problems import Exhausted, NotFound, Unavailable
from mesh.security import EVERYBODY, current_caller
from mesh.telemetry.spans import traceparent_of
from store_svc.commit_signals import CommitSignals, wait
from store_svc.database import Database
from store_svc.database.statement import Connection, Record, Statement, equals, parameter
from store_svc.database.tables import jobs, renditions
from store_svc.domain.job import RENDER
from store_svc.domain.render_input import input_digest
from store_svc.domain.rendition import READY, USE_INTERVAL, WAITING, new_rendition
from store_svc.ids import parse_uuid
from store_svc.renditions.render_inputs import RenderInputs
from store_svc.renditions.rendition_rows import lock_renditions, stored_rendition, write_renditions
from store_svc.times import stamp

# How many renditions may wait at the same time, and of those, how many that one caller has asked for first.
# While authentication is off, all callers are one, and nobody can take another one's turn.
MAX_WAITING, MAX_OF_CALLER = 20, 1
TOO_MANY = "TOO_MANY_RENDITIONS"
# How many requests wait for their turn: each of them asks the database again after each rendition.
MAX_IN_LINE = 40
# How often to look while another process may have recorded the rendition.
POLL_SECONDS = 0.5
# The advisory lock of a transaction that adds a rendition.
LOCK = 0x1A7E8

_SERIALISE = Statement(select(func.pg_advisory_xact_lock(literal(LOCK))))
_FIND = Statement(
    select(renditions, jobs.c.progress)
    .select_from(renditions.outerjoin(jobs, (jobs.c.kind == RENDER) & (jobs.c.subject_id == renditions.c.id)))
    .where(equals(renditions.c.id, "id"))
)
_WAITING = Statement(
    select(
        func.count().label("all"),
        func.count()
        .filter(renditions.c.requested_by == parameter("caller_id", renditions.c.requested_by))
        .label("of_caller"),
    ).where(renditions.c.state == WAITING)
)
_REMOVE = Statement(
    delete(renditions).where(equals(renditions.c.id, "rendition_id"), equals(renditions.c.sha256, "sha256"))
)
_SET_USED = Statement(
    update(renditions)
    .values(last_used_at=parameter("now", renditions.c.last_used_at))
    .where(equals(renditions.c.id, "rendition_id"))
)


class RenditionRequests:
    def __init__(
        self,
        database: Database,
        inputs: RenderInputs,
        blobs: Blobs,
        signals: CommitSignals,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._inputs = inputs
        self._blobs = blobs
        self._signals = signals
        self._clock = clock
        self._in_line = 0  # requests that wait for their turn

    async def request(self, kind: int, subject_id: str, timeout: float) -> Rendition:
        """Returns the rendition of the subject as it is now, after waiting for it for up to `timeout`
        seconds, or until the process stops. Has it made if there is none.

        If it would have to be made while the caller's last one is being made, or MAX_WAITING are, the request
        waits for its turn first. Raises Exhausted (TOO_MANY_RENDITIONS) if that does not come in time, or
        MAX_IN_LINE wait already; and what `RenderInputs.plan` raises.
        """
        loop_time = asyncio.get_running_loop().time
        deadline = loop_time() + timeout
        async with self._database.connection() as connection:
            input = await self._inputs.plan(connection, kind, subject_id)
        # As of now: an event that grows meanwhile has another rendition then.
        id = parse_uuid(rendition_id(kind, input_digest(subject_id, input)))
        while True:
            upcoming = self._signals.rendered.upcoming()
            row: Record | None = None
            try:
                row = await self._find(id) or await self._add(id, parse_uuid(subject_id), input)
            except Exhausted as problem:
                if problem.reason != TOO_MANY or loop_time() >= deadline or self._in_line >= MAX_IN_LINE:
                    raise
                if self._signals.rendered.ended:
                    raise Unavailable("this process is stopping: ask again", "STOPPING") from None
            remaining = 0.0 if self._signals.rendered.ended else deadline - loop_time()
            if row is not None and (row["state"] != WAITING or remaining <= 0):
                return _message(row)
            self._in_line += row is None
            try:
                await wait(upcoming, min(self._signals.rendered.patience(POLL_SECONDS), remaining))
            finally:
                self._in_line -= row is None

    async def _find(self, id: UUID) -> Record | None:
        """Notes that the rendition is used, if there is one.

        When its use was noted last some time ago, looks whether its content is still there, because a
        restored database may be older than the blobs. If not, the rendition is removed.
        """
        now = self._clock()
        async with self._database.connection() as connection:
            row = await _FIND.fetch_one(connection, id=id)
            if row is None or abs(now - row["last_used_at"]) < USE_INTERVAL:
                return row
            await _SET_USED.execute(connection, rendition_id=id, now=now)
        if row["state"] == READY:
            try:
                await self._blobs.size(row["sha256"])
            except NotFound:
                async with self._database.connection() as connection:
                    await _REMOVE.execute(connection, rendition_id=id, sha256=row["sha256"])
                return None
        return row

    async def _add(self, id: UUID, subject_id: UUID, input: RenderInput) -> Record:
        """Adds a rendition that waits, unless another request has added it meanwhile."""

        async def work(connection: Connection) -> Record | None:
            await _SERIALISE.execute(connection)
            if not await lock_renditions(connection, [id]):
                caller_id = current_caller().id
                await _require_room(connection, caller_id)
                added = new_rendition(
                    id,
                    input.kind,
                    subject_id,
                    input.camera_id,
                    input.SerializeToString(),
                    caller_id,
                    self._clock(),
                    traceparent_of() or None,
                )
                await write_renditions(connection, [added])
            return await _FIND.fetch_one(connection, id=id)

        row = await self._database.transaction(work)
        assert row is not None  # written, or locked
        self._signals.due.notify()
        return row


async def _require_room(connection: Connection, caller_id: str) -> None:
    """Raises Exhausted (TOO_MANY_RENDITIONS)."""
    waiting = await _WAITING.fetch_one(connection, caller_id=caller_id)
    assert waiting is not None  # an aggregate
    if caller_id != EVERYBODY.id and waiting["of_caller"] >= MAX_OF_CALLER:
        raise Exhausted("something else that you asked for is still being made", TOO_MANY)
    if waiting["all"] >= MAX_WAITING:
        raise Exhausted(f"{MAX_WAITING} others are waiting to be made", TOO_MANY)


def _message(row: Record) -> Rendition:
    rendition = stored_rendition(row)
    return Rendition(
        id=str(rendition.id),
        kind=rendition.kind,  # type: ignore[arg-type]
        subject_id=str(rendition.subject_id),
        state=rendition.state,  # type: ignore[arg-type]
        blob=rendition.blob,
        progress=row["progress"] or 0.0,
        failure=rendition.failure,
        requested_at=stamp(rendition.requested_at),
    )
