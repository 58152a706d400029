"""Leases jobs to workers, each for a limited time, after which another worker can lease the job."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from lares.store.internal.v1.job_service_pb2 import AssessInput, JobLease, RenderInput
from mesh.telemetry.spans import Attributes, past_span
from store_svc.commit_signals import CommitSignal, wait
from store_svc.database import Connection, Database
from store_svc.domain.job import Job
from store_svc.job_queue import lease_jobs, next_due, release_leases, renew_leases
from store_svc.read_progress import ReadProgress
from store_svc.times import stamp

# How often to check for jobs that another process has made due.
POLL_SECONDS = 0.5
# How long a released job waits before it is due again.
RELEASED_SECONDS = 1.0

JobInput = AssessInput | RenderInput
ReadInputs = Callable[[Connection, Sequence[Job]], Awaitable[Mapping[UUID, JobInput]]]


@dataclass(frozen=True, slots=True)
class JobKind:
    """What one kind of jobs needs: how far its facts are read, and a function that reads the jobs' inputs.

    A job without an input is not given to a worker. It can be leased again after its lease has expired.
    """

    facts: ReadProgress
    read_inputs: ReadInputs


class JobLeases:
    """Leases each due job to one worker at a time.

    No job is leased before all facts from before the start are in the store, and a job whose lease has
    expired is not leased again before all facts from before the expiry are. Therefore no work is repeated
    after a restart, or while the store is behind.
    """

    def __init__(
        self,
        database: Database,
        kinds: Mapping[int, JobKind],
        due: CommitSignal,
        seconds: float,
        clock: Callable[[], datetime],
    ) -> None:
        """Takes the kinds by their number, and the length of a lease in seconds."""
        self._database = database
        self._kinds = kinds
        self._due = due
        self._length = timedelta(seconds=seconds)
        self._clock = clock

    async def lease(self, kind: int, max_jobs: int, timeout: float) -> list[JobLease]:
        """Leases due jobs: the highest priority first, then the newest.

        Waits for the first job for up to `timeout` seconds, or until the process stops.
        """
        now = asyncio.get_running_loop().time
        deadline = now() + timeout
        while True:
            upcoming = self._due.upcoming()
            leased, leases = await self._lease_now(self._kinds[kind], kind, max_jobs)
            if leases:
                return leases
            if leased:  # but none of them has an input, so try the next jobs at once
                continue
            if now() >= deadline or self._due.ended:
                return []
            await wait(upcoming, min(await self._patience(kind), deadline - now()))

    async def _patience(self, kind: int) -> float:
        """How long to wait at most for a signal, since jobs also become due as time passes."""
        longest = self._due.patience(POLL_SECONDS)
        if longest <= POLL_SECONDS:
            return longest
        async with self._database.connection() as connection:
            due_at = await next_due(connection, kind)
        if due_at is None:
            return longest
        seconds = (due_at - self._clock()).total_seconds()
        # A job that is due already was locked by a transaction, whose commit may signal nothing.
        return min(longest, seconds) if seconds > 0 else POLL_SECONDS

    async def _lease_now(self, job_kind: JobKind, kind: int, max_jobs: int) -> tuple[int, list[JobLease]]:
        """Returns how many jobs were leased, and the leases of those that have an input."""
        read_until = job_kind.facts.until
        if read_until is None:
            return 0, []

        async def lease(connection: Connection) -> tuple[Sequence[Job], Mapping[UUID, JobInput]]:
            now = self._clock()
            jobs = await lease_jobs(connection, kind, max_jobs, now, self._length, read_until)
            return jobs, await job_kind.read_inputs(connection, jobs) if jobs else {}

        jobs, inputs = await self._database.transaction(lease)
        complete = [job for job in jobs if job.subject_id in inputs]
        return len(jobs), [_lease_message(job, inputs[job.subject_id]) for job in complete]

    async def renew(
        self, lease_ids: Sequence[str], progress: Mapping[str, float] | None = None
    ) -> tuple[list[str], datetime]:
        """Extends leases. Returns those that are still held, and their new expiry. `progress` is how much of
        a job is done, by lease.

        A lease is no longer held once its job is done or, after the expiry, leased again.
        """
        until = self._clock() + self._length
        done = {id: _share((progress or {}).get(id)) for id in lease_ids}
        return await self._database.transaction(lambda c: renew_leases(c, done, until)), until

    async def release(self, lease_ids: Sequence[str]) -> None:
        """Returns jobs to the queue, due after RELEASED_SECONDS. No attempt is counted."""
        due_at = self._clock() + timedelta(seconds=RELEASED_SECONDS)
        await self._database.transaction(lambda connection: release_leases(connection, lease_ids, due_at))
        self._due.notify()  # a call that waits has to learn when they are due


def _share(progress: float | None) -> float | None:
    """Within 0..1; None for what is not a number."""
    return None if progress is None or math.isnan(progress) else min(max(progress, 0.0), 1.0)


def _lease_message(job: Job, input: JobInput) -> JobLease:
    assert job.leased_until is not None  # just leased
    attributes: Attributes = {"lares.job.subject": str(job.subject_id), "lares.attempt": job.attempts + 1}
    return JobLease(
        lease_id=str(job.lease_id),
        subject_id=str(job.subject_id),
        expires_at=stamp(job.leased_until),
        attempt=job.attempts + 1,
        assess=input if isinstance(input, AssessInput) else None,
        render=input if isinstance(input, RenderInput) else None,
        traceparent=past_span(job.traceparent or "", "wait for lease", attributes, job.due_at),
    )
