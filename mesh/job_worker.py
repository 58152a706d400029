"""The loop of a worker that does jobs of the store's queue."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager

import structlog

from lares.store.internal.v1.job_service_pb2 import JobLease
from mesh.job_client import ANSWER_SECONDS, JobClient
from mesh.lease_clock import lease_time
from mesh.problems import Conflict, Problem, Unavailable
from mesh.retry import Backoff
from mesh.task_group import task_group

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.25
# How often a lease is renewed within its length.
RENEWALS = 3


class LeaseLost(Conflict):
    """Another worker has the job, or it was closed: the result is not needed any more."""


class JobWorker:
    """Leases jobs, does them by `work`, and renews their leases meanwhile, so that they never expire.

    `work` publishes the fact that closes its job within `publishing`, and returns once it is durable. A job
    stays in the store's queue until the store has read the fact, so no job is lost: if a worker dies, its
    leases expire. If `work` raises a retryable Problem, the lease is released, which is no attempt, and
    nothing is leased for the pause that `backoff` gives. `capacity` says how many jobs may be done at the
    same time. Nothing is leased while `is_away`: what does the jobs cannot be reached. Leases are renewed at
    least every `progress_seconds`, which tells the store how much is done.
    """

    def __init__(
        self,
        jobs: JobClient,
        work: Callable[[JobLease], Awaitable[None]],
        *,
        capacity: Callable[[], int],
        lease_seconds: float,
        backoff: Backoff,
        progress_seconds: float = math.inf,
        is_away: Callable[[], bool] = lambda: False,
    ) -> None:
        self._jobs, self._work = jobs, work
        self._capacity, self._is_away = capacity, is_away
        self._backoff = backoff
        self._lease_seconds = lease_seconds
        self._renew_seconds = min(lease_seconds / RENEWALS, progress_seconds)
        self._failures = 0
        self._resume_at = 0.0
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by lease id
        # When the store was asked for what it has granted or renewed, by lease id: each is held for
        # `lease_seconds` from then on, or longer.
        self._asked_at: dict[str, float] = {}
        # The leases whose fact may be on the log.
        self._published: set[str] = set()
        # How much of a job is done, 0 to 1, by lease id: written by `work`, told to the store.
        self.progress: dict[str, float] = {}

    @property
    def working(self) -> int:
        """How many jobs it is doing now."""
        return len(self._tasks)

    async def run(self) -> None:
        """Works until cancelled, then releases its leases. Raises a Problem that waiting cannot solve."""
        try:
            async with task_group() as group:
                group.create_task(self._renew_leases())
                while True:
                    await self._until_capacity()
                    asked_at = lease_time()
                    for lease in await self._jobs.lease(self._free()):
                        self._asked_at[lease.lease_id] = asked_at
                        self._tasks[lease.lease_id] = group.create_task(self._handle(lease))
        finally:
            await self._release(self._tasks)

    @asynccontextmanager
    async def publishing(self, lease: JobLease) -> AsyncIterator[None]:
        """The fact of this lease is published within the block.

        Raises LeaseLost, or Unavailable if the store does not say whether the lease is still held: a worker
        that stood still for longer than its lease would repeat the work of another one. If publishing fails,
        the fact may be on the log nevertheless, so the lease is left to expire: the job is leased again once
        the store has read the log up to then.
        """
        if not self._surely_held(lease.lease_id):
            await self._renew([lease.lease_id])
            if lease.lease_id not in self._tasks:
                raise LeaseLost("another worker has the job", "LEASE_LOST")
            if not self._surely_held(lease.lease_id):
                raise Unavailable("the lease was not renewed", "LEASE_NOT_RENEWED")
        self._published.add(lease.lease_id)
        yield

    def _surely_held(self, lease_id: str) -> bool:
        """Whether half of the lease or more is left: renewing goes on meanwhile."""
        return lease_time() - self._asked_at[lease_id] <= self._lease_seconds / 2

    async def _until_capacity(self) -> None:
        """Waits until another job may be leased, what does it is there and the pause is over."""
        while True:
            if (away := self._is_away()) or self._pause() > 0:
                await asyncio.sleep(POLL_SECONDS if away else min(POLL_SECONDS, self._pause()))
                if away and not self._is_away():  # the pause was for what is back now
                    self._resume_at = 0.0
                    self._failures = 0
            elif self._free() <= 0:
                await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
            else:
                return

    def _pause(self) -> float:
        """Seconds until jobs may be leased again."""
        return self._resume_at - lease_time()

    def _free(self) -> int:
        """How many more jobs may be leased."""
        return self._capacity() - len(self._tasks)

    async def _handle(self, lease: JobLease) -> None:
        with self._jobs.working.track_inprogress(), self._jobs.seconds.time():
            await self._do(lease)

    async def _do(self, lease: JobLease) -> None:
        try:
            await self._work(lease)
        except LeaseLost:
            pass
        except Problem as problem:
            if not problem.retryable:
                raise
            await self._postpone(lease, problem)
        else:
            self._failures = 0
        finally:
            self.progress.pop(lease.lease_id, None)
        self._forget(lease.lease_id)

    async def _postpone(self, lease: JobLease, problem: Problem) -> None:
        """Releases the lease and starts a pause, unless one has begun already: jobs that fail together count
        as one failure."""
        now = lease_time()
        if now >= self._resume_at:
            self._failures += 1
            self._resume_at = now + self._backoff.pause(self._failures)
        pause = round(self._resume_at - now, 1)
        log.warning("job not done, pausing", subject_id=lease.subject_id, reason=problem.reason, pause=pause)
        await self._release([lease.lease_id])

    async def _release(self, lease_ids: Collection[str]) -> None:
        """Releases the leases of which no fact can be on the log."""
        if unpublished := set(lease_ids) - self._published:
            await self._jobs.release(unpublished)

    async def _renew_leases(self) -> None:
        pause = self._renew_seconds
        while True:
            await asyncio.sleep(pause * random.uniform(0.8, 1))  # noqa: S311  # not a secret
            answered = not self._tasks or await self._renew(list(self._tasks))
            # While the store does not answer, there is less time left.
            pause = self._renew_seconds if answered else self._renew_seconds / 4

    async def _renew(self, lease_ids: Collection[str]) -> bool:
        """Renews leases, and ends the work for those that are lost. Returns whether the store has answered in
        time."""
        asked_at = lease_time()
        patience = min(ANSWER_SECONDS, self._lease_seconds / 2)
        held = await self._jobs.renew(lease_ids, self.progress, patience)
        if held is None:
            return False
        for id in self._tasks.keys() & lease_ids:
            if id in held:
                self._asked_at[id] = asked_at
                continue
            log.info("lease lost", lease_id=id)
            task = self._tasks[id]
            self._forget(id)
            if task is not asyncio.current_task():
                task.cancel()
        return True

    def _forget(self, lease_id: str) -> None:
        self._tasks.pop(lease_id, None)
        self._asked_at.pop(lease_id, None)
        self._published.discard(lease_id)
