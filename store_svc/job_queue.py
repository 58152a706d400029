"""The table `jobs`, below SQLAlchemy.

Whoever changes jobs together with their subjects has locked the cameras, and locks the jobs next, by kind and
subject, before the feed's counter. Renewing and releasing lock in the same order. Leasing, hastening and
mending pass over what is locked, so they wait for nobody.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from lares.store.internal.v1.job_service_pb2 import ReassessmentRequest
from store_svc.domain.job import RETRY_MAX_SECONDS, RETRY_SECONDS, Job, Request

MOST_HASTENED = 200  # by one success

_COLUMNS = [
    "kind",
    "subject_id",
    "camera_id",
    "rank_time",
    "due_at",
    "waiting_since",
    "priority",
    "attempts",
    "failed",
    "hastened",
    "input_digest",
    "request_id",
    "request",
    "lease_id",
    "leased_until",
    "traceparent",
]
_LOCK = """
    SELECT * FROM jobs WHERE kind = $1 AND subject_id = ANY($2::uuid[]) ORDER BY kind, subject_id FOR UPDATE
"""
_WRITE = f"""
    INSERT INTO jobs ({", ".join(_COLUMNS)})
    VALUES ({", ".join(f"${n}" for n, _ in enumerate(_COLUMNS, 1))})
    ON CONFLICT (kind, subject_id) DO UPDATE
    SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[2:])}
"""  # noqa: S608 - constants
_DELETE = "DELETE FROM jobs WHERE kind = $1 AND subject_id = ANY($2::uuid[])"

# A pause farther ahead than the longest is of a clock since set back: it counts as over.
_LEASE = """
    WITH due AS (
        SELECT id FROM jobs
        WHERE kind = $1 AND NOT (due_at > $2 AND due_at <= $2 + $5::interval)
        AND (lease_id IS NULL OR leased_until <= $6)
        ORDER BY priority DESC, rank_time DESC LIMIT $3 FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs SET lease_id = gen_random_uuid(), leased_until = $2 + $4::interval
    FROM due WHERE jobs.id = due.id RETURNING jobs.*
"""
_HELD = """
    WITH held AS (
        SELECT id FROM jobs WHERE lease_id = ANY($1::uuid[]) ORDER BY kind, subject_id FOR UPDATE
    )
"""
_RENEW = f"""
    {_HELD} UPDATE jobs SET leased_until = $2 FROM held WHERE jobs.id = held.id RETURNING lease_id
"""  # noqa: S608 - constants
_RELEASE = f"""
    {_HELD} UPDATE jobs SET lease_id = NULL, leased_until = NULL, due_at = $2
    FROM held WHERE jobs.id = held.id
"""  # noqa: S608 - constants
_HASTEN = """
    UPDATE jobs SET due_at = least(due_at, $2), hastened = true WHERE id IN (
        SELECT id FROM jobs
        WHERE kind = $1 AND failed AND NOT hastened AND (lease_id IS NULL OR leased_until <= $2)
        ORDER BY priority DESC, rank_time DESC LIMIT $3 FOR UPDATE SKIP LOCKED
    ) RETURNING id
"""
_LAST_EXPIRY = (
    "SELECT max(leased_until) FROM jobs WHERE kind = $1 AND lease_id IS NOT NULL AND leased_until <= $2"
)

# A deadline farther ahead than its own length is of a clock since set back.
_LATEST_DUE = """
    $1::timestamptz + interval '1 second'
    * least($3::float8, $4::float8 * power(2, least(greatest(attempts, 1), 30) - 1))
"""
_MEND = f"""
    UPDATE jobs SET
        due_at = CASE WHEN due_at > {_LATEST_DUE} THEN $1 ELSE due_at END,
        leased_until = CASE WHEN leased_until > $1 + $2::interval THEN $1 ELSE leased_until END
    WHERE id IN (
        SELECT id FROM jobs WHERE due_at > {_LATEST_DUE} OR leased_until > $1 + $2::interval
        FOR UPDATE SKIP LOCKED
    )
"""  # noqa: S608 - constants


async def lock_jobs(
    connection: "asyncpg.Connection", kind: int, subject_ids: Collection[UUID]
) -> dict[UUID, Job]:
    """Locks the jobs of these subjects, and reads them: by subject, those that exist."""
    rows = await connection.fetch(_LOCK, kind, list(subject_ids))
    return {row["subject_id"]: _job(row) for row in rows}


async def write_jobs(connection: "asyncpg.Connection", jobs: Sequence[Job]) -> None:
    """Makes or replaces them. Each must be locked, or be new while its camera is locked."""
    if jobs:
        ordered = sorted(jobs, key=lambda job: (job.kind, job.subject_id))
        await connection.executemany(_WRITE, [_row(job) for job in ordered])


async def delete_jobs(connection: "asyncpg.Connection", kind: int, subject_ids: Collection[UUID]) -> None:
    """Those that exist must be locked."""
    if subject_ids:
        await connection.execute(_DELETE, kind, list(subject_ids))


async def lease_jobs(
    connection: "asyncpg.Connection",
    kind: int,
    most: int,
    now: datetime,
    length: timedelta,
    read_until: datetime,
) -> list[Job]:
    """Leases due jobs that nobody holds or is just taking: by priority, then the latest rank time first. One
    whose lease has expired is taken only where all facts of until then are read: `read_until`."""
    pause = timedelta(seconds=RETRY_MAX_SECONDS)
    rows = await connection.fetch(_LEASE, kind, now, most, length, pause, read_until)
    return sorted(map(_job, rows), key=lambda job: (job.priority, job.rank_time), reverse=True)


async def renew_leases(
    connection: "asyncpg.Connection", lease_ids: Collection[str], until: datetime
) -> list[str]:
    """Those that are still held."""
    return [str(row["lease_id"]) for row in await connection.fetch(_RENEW, list(lease_ids), until)]


async def release_leases(
    connection: "asyncpg.Connection", lease_ids: Collection[str], due_at: datetime
) -> None:
    """Those that are still held; each job is due again at `due_at`."""
    await connection.execute(_RELEASE, list(lease_ids), due_at)


async def hasten_jobs(connection: "asyncpg.Connection", kind: int, now: datetime) -> bool:
    """Makes jobs due that failed and are not in hand, each once until it succeeds; whether there were any."""
    return bool(await connection.fetch(_HASTEN, kind, now, MOST_HASTENED))


async def last_expiry(connection: "asyncpg.Connection", kind: int, now: datetime) -> datetime | None:
    """When the last of the leases expired that are over by now and not yet granted anew."""
    at: datetime | None = await connection.fetchval(_LAST_EXPIRY, kind, now)
    return at


async def mend_jobs(connection: "asyncpg.Connection", now: datetime, length: timedelta) -> None:
    """Jobs whose pause ends farther ahead than it can are due; leases longer than `length` are over."""
    await connection.execute(_MEND, now, length, RETRY_MAX_SECONDS, RETRY_SECONDS)


def _row(job: Job) -> tuple[object, ...]:
    request = job.request
    return (
        job.kind,
        job.subject_id,
        job.camera_id,
        job.rank_time,
        job.due_at,
        job.waiting_since,
        job.priority,
        job.attempts,
        job.failed,
        job.hastened,
        job.input_digest,
        request.id if request else None,
        request_message(request).SerializeToString() if request else None,
        job.lease_id,
        job.leased_until,
        job.traceparent,
    )


def _job(row: "asyncpg.Record") -> Job:
    request = None
    if row["request_id"] is not None:
        asked = ReassessmentRequest.FromString(row["request"])
        request = Request(row["request_id"], asked.model, asked.prompt)
    plain = {name: row[name] for name in _COLUMNS if name not in ("request_id", "request")}
    return Job(**plain, request=request)


def request_message(request: Request) -> ReassessmentRequest:
    return ReassessmentRequest(request_id=str(request.id), model=request.model, prompt=request.prompt)
