"""Several servers that hold the same model: who is asked next, who is left alone. No wire here."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

import structlog

from detect_svc.detectors.circuit_breaker import BreakerState, CircuitBreaker
from detect_svc.detectors.detector import ServerState
from mesh.problems import Invalid, Problem, Unavailable

log = structlog.get_logger(__name__)

# How often a server that answers is looked at: it may have loaded another model.
LOOK_SECONDS = 5.0

Q = TypeVar("Q", contravariant=True)
A = TypeVar("A", covariant=True)


class InferenceServer(Protocol[Q, A]):
    address: str

    async def ask(self, request: Q) -> A:
        """Raises Unavailable where another server may do better, any other Problem where none would."""
        ...

    async def look(self) -> int:
        """Whether it could answer: how many requests at a time keep it busy. Raises Unavailable."""
        ...

    async def watch(self, lost: Callable[[], None]) -> None:
        """Calls `lost` when a connection ends, for ever: who is behind the next one is not known."""
        ...


class PooledServer(Generic[Q, A]):
    """One server as the pool sees it."""

    def __init__(self, server: InferenceServer[Q, A], changed: Callable[[], None]) -> None:
        self.server, self._changed = server, changed
        self.breaker = CircuitBreaker()
        self.limit, self.in_flight, self.answered, self.failed = 1, 0, 0, 0
        self.why = Unavailable(f"{server.address} has not been looked at yet", "DETECTOR_AWAY")
        self._doubt = asyncio.Event()

    @property
    def available(self) -> bool:
        return self.breaker.state is not BreakerState.OPEN

    @property
    def has_room(self) -> bool:
        return self.in_flight < (1 if self.breaker.state is BreakerState.TRIAL else self.limit)

    @property
    def state(self) -> ServerState:
        return ServerState(self.server.address, self.available, self.in_flight, self.answered, self.failed)

    async def ask(self, request: Q) -> A:
        """Raises what the server raises. Its room is taken before, and given back here."""
        try:
            answer = await self._judged(request)
        except Unavailable as problem:
            self.doubt(problem)
            raise
        finally:
            self.in_flight -= 1
            self._changed()
        self.answered += 1
        self.breaker.succeed()
        return answer

    async def _judged(self, request: Q) -> A:
        try:
            return await self.server.ask(request)
        except Unavailable:
            self.failed += 1
            raise
        except Invalid:
            self.failed += 1
            # Either this request is at fault, or another model is there: then no request is to blame.
            await self.server.look()
            self.breaker.succeed()
            raise

    def doubt(self, problem: Unavailable) -> None:
        if self.available:
            log.warning("detector server away", address=self.server.address, error=problem.message)
        self.why = problem
        self.breaker.fail()
        self._doubt.set()
        self._changed()

    async def keep(self) -> None:
        """Looks after it for ever: less and less often while it is away, now and then while it answers."""
        while True:
            if self.available:
                await self._until_doubt(LOOK_SECONDS)
            if not self.available:
                await asyncio.sleep(random.uniform(0.5, 1) * self.breaker.pause)  # noqa: S311
            await self.look()

    async def look(self) -> None:
        self._doubt.clear()
        was_available = self.available
        try:
            self.limit = await self.server.look()
        except Exception as error:
            if not isinstance(error, Unavailable):
                log.error("detector server makes no sense", address=self.server.address, exc_info=error)
                error = Unavailable(f"{self.server.address}: {error!r}", "DETECTOR_AWAY")
            self.doubt(error)
            self.breaker.look(well=False)
        else:
            # What failed meanwhile is newer than this look.
            if not self._doubt.is_set():
                self.breaker.look(well=True)
                self._changed()
                if not was_available:
                    log.info("detector server there", address=self.server.address)

    async def _until_doubt(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._doubt.wait()
        except TimeoutError:
            return

    async def watch(self) -> None:
        def lost() -> None:
            if self.available:
                self.doubt(Unavailable(f"{self.server.address}: the connection ended", "DETECTOR_AWAY"))

        await self.server.watch(lost)


class ServerPool(Generic[Q, A]):
    """Asks the least busy of the servers that answer; who fails is left alone, another one asked at once."""

    def __init__(self, servers: Sequence[InferenceServer[Q, A]], wait_seconds: float) -> None:
        self.places = [PooledServer(server, self._wake) for server in servers]
        self._wait_seconds = wait_seconds
        self._waiters: set[asyncio.Future[None]] = set()
        self._turn = 0

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Looks after the servers while the block runs, after a first look at each."""
        tasks = [asyncio.create_task(place.watch()) for place in self.places]
        try:
            await asyncio.gather(*(place.look() for place in self.places))
            tasks += [asyncio.create_task(place.keep()) for place in self.places]
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def require(self) -> None:
        """Raises Unavailable, in the servers' own words, while none of them is to be asked."""
        if not any(place.available for place in self.places):
            raise self._away()

    async def ask(self, request: Q) -> A:
        """The first answer. Each server is tried once at most: who wants more waits and asks again.

        Raises the last server's Unavailable, Unavailable DETECTOR_BUSY without room in time, and any other
        Problem at once.
        """
        tried: list[PooledServer[Q, A]] = []
        problem: Problem | None = None
        while place := await self._taken(tried):
            tried.append(place)
            try:
                return await place.ask(request)
            except Unavailable as unavailable:
                problem = unavailable
        raise problem or self._away()

    async def _taken(self, tried: Collection[PooledServer[Q, A]]) -> PooledServer[Q, A] | None:
        """An available server with room, one request of which is ours now; None when there is none left."""
        try:
            async with asyncio.timeout(self._wait_seconds):
                while left := [one for one in self.places if one.available and one not in tried]:
                    if free := [one for one in left if one.has_room]:
                        return self._take(free)
                    await self._change()
        except TimeoutError:
            raise Unavailable("every detector server is busy", "DETECTOR_BUSY") from None
        return None

    def _take(self, free: Sequence[PooledServer[Q, A]]) -> PooledServer[Q, A]:
        self._turn += 1
        turned = [free[(self._turn + index) % len(free)] for index in range(len(free))]
        place = min(turned, key=lambda one: one.in_flight)
        place.in_flight += 1
        return place

    def _away(self) -> Unavailable:
        return Unavailable("; ".join(place.why.message for place in self.places), "DETECTOR_AWAY")

    async def _change(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
