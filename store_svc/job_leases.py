"""Jobs handed out to the workers: each for a time, and back in the queue when its worker dies."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from lares.store.internal.v1.job_service_pb2 import AssessInput, JobLease
from mesh.telemetry.spans import Attributes, past_span
from store_svc.commit_signals import CommitSignal, wait
from store_svc.database import Database
from store_svc.domain.job import Job
from store_svc.facts_read import FactsRead
from store_svc.job_queue import lease_jobs, release_leases, renew_leases
from store_svc.times import stamp

POLL_SECONDS = 0.5  # another process may have made a job due, or have read the facts
RELEASED_SECONDS = 1.0  # how long a job rests that was given back

ReadInputs = Callable[["asyncpg.Connection", Sequence[Job]], Awaitable[Mapping[UUID, AssessInput]]]


@dataclass(frozen=True, slots=True)
class JobKind:
    """What tells the kinds of jobs apart: the facts that close them, and the input that their workers need.
    Jobs without an input are not handed out; they come again when their lease ends."""

    facts: FactsRead
    read_inputs: ReadInputs


class JobLeases:
    """Each due job is with one worker at a time. Nothing is leased before all facts of before the start are
    in the store, and a job whose lease expired not before those of until then are: so nothing is done twice
    after a restart, or where the store reads late."""

    def __init__(
        self,
        database: Database,
        kinds: Mapping[int, JobKind],
        due: CommitSignal,
        seconds: float,
        clock: Callable[[], datetime],
    ) -> None:
        """`kinds` by number; `seconds` is the length of a lease."""
        self._database = database
        self._kinds = kinds
        self._due = due
        self._length = timedelta(seconds=seconds)
        self._clock = clock

    async def lease(self, kind: int, most: int, patience: float) -> list[JobLease]:
        """Due jobs, the highest priority first, then the most recent. Waits up to `patience` seconds for the
        first."""
        now = asyncio.get_running_loop().time
        deadline = now() + patience
        while True:
            upcoming = self._due.upcoming()
            leased, handed_out = await self._take(self._kinds[kind], kind, most)
            if handed_out:
                return handed_out
            if leased:  # but none has an input: whoever comes after them need not wait
                continue
            if now() >= deadline:
                return []
            await wait(upcoming, min(POLL_SECONDS, deadline - now()))

    async def _take(self, work: JobKind, kind: int, most: int) -> tuple[int, list[JobLease]]:
        """How many jobs were leased, and those of them that have an input."""
        read_until = work.facts.until
        if read_until is None:
            return 0, []

        async def lease(connection: asyncpg.Connection) -> tuple[Sequence[Job], Mapping[UUID, AssessInput]]:
            now = self._clock()
            jobs = await lease_jobs(connection, kind, most, now, self._length, read_until)
            return jobs, await work.read_inputs(connection, jobs) if jobs else {}

        jobs, inputs = await self._database.fast(lease)
        whole = [job for job in jobs if job.subject_id in inputs]
        return len(jobs), [_lease(job, inputs[job.subject_id]) for job in whole]

    async def renew(self, lease_ids: Sequence[str]) -> tuple[list[str], datetime]:
        """Those still held, and until when: a job that is done, or leased anew after its time, is lost."""
        until = self._clock() + self._length
        return await self._database.fast(lambda c: renew_leases(c, lease_ids, until)), until

    async def release(self, lease_ids: Sequence[str]) -> None:
        """Back into the queue, after a moment; no attempt is counted."""
        due_at = self._clock() + timedelta(seconds=RELEASED_SECONDS)
        await self._database.fast(lambda connection: release_leases(connection, lease_ids, due_at))


def _lease(job: Job, input: AssessInput) -> JobLease:
    assert job.leased_until is not None  # just leased
    about: Attributes = {"lares.job.subject": str(job.subject_id), "lares.attempt": job.attempts + 1}
    return JobLease(
        lease_id=str(job.lease_id),
        subject_id=str(job.subject_id),
        expires_at=stamp(job.leased_until),
        attempt=job.attempts + 1,
        assess=input,
        traceparent=past_span(job.traceparent or "", "wait for lease", about, job.due_at),
    )
