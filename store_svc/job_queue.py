"""Reads and writes the table `jobs`.

A transaction that changes jobs together with their subjects has locked the cameras before, and locks the jobs
next, by kind and subject, before the feed's counter. Renewing and releasing lock in the same order. Leasing,
hastening and the repair of deadlines skip rows that are locked, so they never wait.

Times are of the clocks of the stores, which differ a little, and a time is a moment old when it is compared.
So a deadline counts as one from before the clock was set back only if it is wrong by more than a lease's
length.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CTE,
    Double,
    Integer,
    Interval,
    and_,
    case,
    delete,
    exists,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from lares.store.internal.v1.job_service_pb2 import ReassessmentRequest
from store_svc.database.statement import (
    Connection,
    Record,
    Statement,
    one_of,
    parameter,
    unnested,
    unnested_values,
)
from store_svc.database.tables import TIME, jobs
from store_svc.domain.job import RETRY_MAX_SECONDS, RETRY_SECONDS, Job, Request

MAX_HASTENED = 200  # by one success

_KEY = ("kind", "subject_id")
_COLUMNS = [column for column in jobs.columns if column.name != "id"]
_PREFIX = "job_"  # of columns in a row that also has others
_kind = parameter("kind", jobs.c.kind)
_now = parameter("now", TIME)
_limit = parameter("limit", Integer)
_best_first = jobs.c.priority.desc(), jobs.c.rank_time.desc()
_of_subjects = and_(jobs.c.kind == _kind, one_of(jobs.c.subject_id, "subject_ids"))

_DELETE = Statement(delete(jobs).where(_of_subjects))


def _write() -> Statement:
    statement = (
        insert(jobs).inline().values({column.name: parameter(column.name, column) for column in _COLUMNS})
    )
    replaced = {
        column.name: statement.excluded[column.name] for column in _COLUMNS if column.name not in _KEY
    }
    return Statement(statement.on_conflict_do_update(index_elements=_KEY, set_=replaced))


def _lease() -> Statement:
    # A pause that ends later than the longest pause could was computed before the clock was set back, and
    # counts as over.
    longest = parameter("longest_pause", Interval)
    pausing = and_(jobs.c.due_at > _now, jobs.c.due_at <= _now + longest)
    available = or_(jobs.c.lease_id.is_(None), jobs.c.leased_until <= parameter("read_until", TIME))
    due = (
        select(jobs.c.id)
        .where(jobs.c.kind == _kind, not_(pausing), available)
        .order_by(*_best_first)
        .limit(_limit)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    return Statement(
        update(jobs)
        .values(
            lease_id=func.gen_random_uuid(), leased_until=_now + parameter("length", Interval), progress=0
        )
        .where(jobs.c.id == due.c.id)
        .returning(*_COLUMNS)
    )


_RENEWED = {"lease_id": jobs.c.lease_id, "progress": jobs.c.progress}
_renewed = unnested("renewed", _RENEWED)


def _held() -> CTE:
    """The jobs with these leases, which it locks by kind and subject."""
    return (
        select(jobs.c.id)
        .where(one_of(jobs.c.lease_id, "lease_ids"))
        .order_by(jobs.c.kind, jobs.c.subject_id)
        .with_for_update()
        .cte("held")
    )


def _renew() -> Statement:
    held = (
        select(jobs.c.id, _renewed.c.progress)
        .join_from(jobs, _renewed, jobs.c.lease_id == _renewed.c.lease_id)
        .order_by(jobs.c.kind, jobs.c.subject_id)
        .with_for_update(of=jobs)
        .cte("held")
    )
    return Statement(
        update(jobs)
        .values(
            leased_until=parameter("until", TIME), progress=func.coalesce(held.c.progress, jobs.c.progress)
        )
        .where(jobs.c.id == held.c.id)
        .returning(jobs.c.lease_id)
    )


def _release() -> Statement:
    held = _held()
    released = {"lease_id": null(), "leased_until": null(), "due_at": parameter("due", TIME), "progress": 0}
    return Statement(update(jobs).values(released).where(jobs.c.id == held.c.id))


def _hasten() -> Statement:
    failed = (
        select(jobs.c.id)
        .where(
            jobs.c.kind == _kind,
            jobs.c.failed,
            not_(jobs.c.hastened),
            or_(jobs.c.lease_id.is_(None), jobs.c.leased_until <= _now),
        )
        .order_by(*_best_first)
        .limit(_limit)
        .with_for_update(skip_locked=True)
    )
    return Statement(
        update(jobs)
        .values(due_at=func.least(jobs.c.due_at, _now), hastened=true())
        .where(jobs.c.id.in_(failed))
        .returning(jobs.c.id)
    )


def _repair() -> Statement:
    failures = func.least(func.greatest(jobs.c.attempts, 1), 30)
    seconds = func.least(
        parameter("longest_seconds", Double),
        parameter("first_seconds", Double) * func.power(2, failures - 1),
    )
    second = literal_column("interval '1 second'", Interval)
    length = parameter("length", Interval)
    latest_due = _now + length + second.op("*", return_type=Interval())(seconds)
    latest_end = _now + length + length
    wrong = (
        select(jobs.c.id)
        .where(or_(jobs.c.due_at > latest_due, jobs.c.leased_until > latest_end))
        .with_for_update(skip_locked=True)
    )
    return Statement(
        update(jobs)
        .values(
            due_at=case((jobs.c.due_at > latest_due, _now), else_=jobs.c.due_at),
            leased_until=case((jobs.c.leased_until > latest_end, _now), else_=jobs.c.leased_until),
        )
        .where(jobs.c.id.in_(wrong))
    )


_WRITE, _LEASE, _RENEW, _RELEASE = _write(), _lease(), _renew(), _release()
_HASTEN, _REPAIR = _hasten(), _repair()
_LAST_EXPIRY = Statement(
    select(func.max(jobs.c.leased_until)).where(
        jobs.c.kind == _kind, jobs.c.lease_id.is_not(None), jobs.c.leased_until <= _now
    )
)
_NEXT_DUE = Statement(select(func.min(jobs.c.due_at)).where(jobs.c.kind == _kind, jobs.c.lease_id.is_(None)))
_ANY = Statement(select(exists().select_from(jobs)))


def locked_jobs() -> CTE:
    """The part of a statement that locks the jobs of the parameters `kind` and `subject_ids`. It has the
    columns that `job_of` reads."""
    columns = [column.label(_PREFIX + column.name) for column in _COLUMNS]
    locked = select(*columns).where(_of_subjects).order_by(jobs.c.kind, jobs.c.subject_id)
    return locked.with_for_update().cte("locked_jobs")


def job_of(row: Record) -> Job | None:
    """The job in a row with the columns of `locked_jobs`; None if they are null."""
    if row[_PREFIX + "kind"] is None:
        return None
    return _job({column.name: row[_PREFIX + column.name] for column in _COLUMNS})


async def write_jobs(connection: Connection, written: Sequence[Job]) -> None:
    """Inserts or replaces the jobs. Each must be locked, or be new while its camera is locked."""
    if written:
        ordered = sorted(written, key=lambda job: (job.kind, job.subject_id))
        await _WRITE.execute_many(connection, [_row(job) for job in ordered])


async def delete_jobs(connection: Connection, kind: int, subject_ids: Collection[UUID]) -> None:
    """Deletes the jobs of these subjects. Those that exist must be locked."""
    if subject_ids:
        await _DELETE.execute(connection, kind=kind, subject_ids=list(subject_ids))


async def lease_jobs(
    connection: Connection,
    kind: int,
    max_jobs: int,
    now: datetime,
    length: timedelta,
    read_until: datetime,
) -> list[Job]:
    """Leases up to `max_jobs` due jobs that are neither leased nor locked: by priority, then by the latest
    rank time. A job with an expired lease is due only if the lease expired by `read_until`: all facts that
    were published until then are in the store."""
    rows = await _LEASE.fetch(
        connection,
        kind=kind,
        limit=max_jobs,
        now=now,
        length=length,
        longest_pause=timedelta(seconds=RETRY_MAX_SECONDS) + length,
        read_until=read_until,
    )
    return sorted(map(_job, rows), key=lambda job: (job.priority, job.rank_time), reverse=True)


async def renew_leases(
    connection: Connection, progress: Mapping[str, float | None], until: datetime
) -> list[str]:
    """Extends the leases that are still held, and returns their ids. By lease, `progress` is how much of the
    job is done, None if that is as before."""
    renewed = [{"lease_id": id, "progress": done} for id, done in progress.items()]
    rows = await _RENEW.fetch(connection, until=until, **unnested_values("renewed", _RENEWED, renewed))
    return [str(row["lease_id"]) for row in rows]


async def release_leases(connection: Connection, lease_ids: Collection[str], due_at: datetime) -> None:
    """Ends the leases that are still held; their jobs are due again at `due_at`."""
    await _RELEASE.execute(connection, lease_ids=list(lease_ids), due=due_at)


async def hasten_jobs(connection: Connection, kind: int, now: datetime) -> bool:
    """Makes failed jobs due that are not leased, each once until it succeeds. Returns whether any was."""
    return bool(await _HASTEN.fetch(connection, kind=kind, now=now, limit=MAX_HASTENED))


async def last_expiry(connection: Connection, kind: int, now: datetime) -> datetime | None:
    """When the latest of the leases ended that have expired and were not granted again."""
    at: datetime | None = await _LAST_EXPIRY.fetch_value(connection, kind=kind, now=now)
    return at


async def next_due(connection: Connection, kind: int) -> datetime | None:
    """When the first of the jobs that are not leased is due, None if there is none."""
    at: datetime | None = await _NEXT_DUE.fetch_value(connection, kind=kind)
    return at


async def has_jobs(connection: Connection) -> bool:
    return bool(await _ANY.fetch_value(connection))


async def repair_deadlines(connection: Connection, now: datetime, length: timedelta) -> None:
    """Makes jobs due whose pause ends later than it could, and ends leases that do. Both were made before the
    clock was set back. `length` is that of a lease."""
    await _REPAIR.execute(
        connection,
        now=now,
        length=length,
        longest_seconds=RETRY_MAX_SECONDS,
        first_seconds=RETRY_SECONDS,
    )


def _row(job: Job) -> dict[str, object]:
    request = job.request
    return {
        "kind": job.kind,
        "subject_id": job.subject_id,
        "camera_id": job.camera_id,
        "priority": job.priority,
        "rank_time": job.rank_time,
        "due_at": job.due_at,
        "waiting_since": job.waiting_since,
        "attempts": job.attempts,
        "failed": job.failed,
        "hastened": job.hastened,
        "input_digest": job.input_digest,
        "request_id": request.id if request else None,
        "request": request_message(request).SerializeToString() if request else None,
        "lease_id": job.lease_id,
        "leased_until": job.leased_until,
        "traceparent": job.traceparent,
        "progress": job.progress,
    }


def _job(row: Record | dict[str, Any]) -> Job:
    fields = dict(row)
    request_id, body = fields.pop("request_id"), fields.pop("request")
    request = None
    if request_id is not None:
        message = ReassessmentRequest.FromString(body)
        request = Request(request_id, message.model, message.prompt)
    return Job(**fields, request=request)


def request_message(request: Request) -> ReassessmentRequest:
    return ReassessmentRequest(request_id=str(request.id), model=request.model, prompt=request.prompt)
