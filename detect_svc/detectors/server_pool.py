"""A pool of servers that hold the same model: chooses a server for each request, and probes the others.

Independent of the servers' protocol.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

import structlog

from detect_svc.detectors.circuit_breaker import BreakerState, CircuitBreaker
from detect_svc.detectors.detector import ServerState
from mesh.problems import Invalid, Problem, Unavailable
from mesh.retry import Backoff

log = structlog.get_logger(__name__)

# A server that is available is probed regularly, too: it may have loaded another model.
PROBE_SECONDS = 5.0
BACKOFF = Backoff(0.5, 10.0)

Request = TypeVar("Request", contravariant=True)
Response = TypeVar("Response", covariant=True)


class InferenceServer(Protocol[Request, Response]):
    address: str

    async def infer(self, request: Request) -> Response:
        """Raises Unavailable if another server may succeed, and any other Problem if none would."""
        ...

    async def probe(self) -> int:
        """Checks that the server can infer, and returns how many concurrent requests keep it busy. Raises
        Unavailable."""
        ...

    async def watch_connection(self, on_lost: Callable[[], None]) -> None:
        """Runs until cancelled. Calls `on_lost` whenever a connection ends: the next one may lead to a server
        with another model."""
        ...


class PooledServer(Generic[Request, Response]):
    """One server of a pool, with its circuit breaker and counters."""

    def __init__(self, server: InferenceServer[Request, Response], on_change: Callable[[], None]) -> None:
        self.server, self._on_change = server, on_change
        self.breaker = CircuitBreaker()
        self.max_in_flight, self.in_flight, self.answered, self.failed = 1, 0, 0, 0
        self.last_error = Unavailable(f"{server.address} has not been probed yet", "DETECTOR_AWAY")
        self._failure = asyncio.Event()

    @property
    def is_available(self) -> bool:
        return self.breaker.state is not BreakerState.OPEN

    @property
    def has_capacity(self) -> bool:
        limit = 1 if self.breaker.state is BreakerState.HALF_OPEN else self.max_in_flight
        return self.in_flight < limit

    @property
    def state(self) -> ServerState:
        return ServerState(self.server.address, self.is_available, self.in_flight, self.answered, self.failed)

    async def infer(self, request: Request) -> Response:
        """Raises what the server raises. The caller has incremented `in_flight`; this decrements it."""
        try:
            response = await self._infer(request)
        except Unavailable as problem:
            self._mark_failed(problem)
            raise
        finally:
            self.in_flight -= 1
            self._on_change()
        self.answered += 1
        self.breaker.record_success()
        return response

    async def _infer(self, request: Request) -> Response:
        try:
            return await self.server.infer(request)
        except Unavailable:
            self.failed += 1
            raise
        except Invalid:
            self.failed += 1
            # Either the request is at fault, or the server holds another model now. The probe raises
            # Unavailable for the latter.
            await self.server.probe()
            self.breaker.record_success()
            raise

    def _mark_failed(self, problem: Unavailable) -> None:
        if self.is_available:
            log.warning("detector server not available", address=self.server.address, error=problem.message)
        self.last_error = problem
        self.breaker.record_failure()
        self._failure.set()
        self._on_change()

    async def probe_forever(self) -> None:
        """Probes the server regularly while it is available, and with growing pauses while it is not."""
        while True:
            if self.is_available:
                await self._wait_for_failure(PROBE_SECONDS)
            if not self.is_available:
                await asyncio.sleep(BACKOFF.pause(self.breaker.failures))
            await self.probe()

    async def probe(self) -> None:
        self._failure.clear()
        was_available = self.is_available
        try:
            self.max_in_flight = await self.server.probe()
        except Exception as error:
            if not isinstance(error, Unavailable):
                log.error("probe of detector server failed", address=self.server.address, exc_info=error)
                error = Unavailable(f"{self.server.address}: {error!r}", "DETECTOR_AWAY")
            self._mark_failed(error)
            self.breaker.record_probe(succeeded=False)
        else:
            # A request that failed during the probe is the newer information.
            if not self._failure.is_set():
                self.breaker.record_probe(succeeded=True)
                self._on_change()
                if not was_available:
                    log.info("detector server available", address=self.server.address)

    async def _wait_for_failure(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._failure.wait()
        except TimeoutError:
            return

    async def watch_connection(self) -> None:
        def on_lost() -> None:
            if self.is_available:
                problem = Unavailable(f"{self.server.address}: the connection ended", "DETECTOR_AWAY")
                self._mark_failed(problem)

        await self.server.watch_connection(on_lost)


class ServerPool(Generic[Request, Response]):
    """Sends each request to the available server with the fewest requests in flight. After a failure the next
    server gets the request at once, and the failed one gets none until a probe succeeds."""

    def __init__(self, servers: Sequence[InferenceServer[Request, Response]], wait_seconds: float) -> None:
        """`wait_seconds`: how long a request may wait for a server with capacity."""
        self.servers = [PooledServer(server, self._wake_waiters) for server in servers]
        self._wait_seconds = wait_seconds
        self._waiters: set[asyncio.Future[None]] = set()
        self._turn = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Probes every server once, and then in the background until the block ends."""
        tasks = [asyncio.create_task(server.watch_connection()) for server in self.servers]
        try:
            await asyncio.gather(*(server.probe() for server in self.servers))
            tasks += [asyncio.create_task(server.probe_forever()) for server in self.servers]
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def require_available(self) -> None:
        """Raises Unavailable, with the last error of each server, while no server is available."""
        if not any(server.is_available for server in self.servers):
            raise self._all_unavailable()

    async def infer(self, request: Request) -> Response:
        """Tries each server at most once. The caller retries.

        Raises the last server's Unavailable, Unavailable DETECTOR_BUSY if no server had capacity in time, and
        any other Problem at once.
        """
        tried: list[PooledServer[Request, Response]] = []
        problem: Problem | None = None
        while server := await self._acquire(tried):
            tried.append(server)
            try:
                return await server.infer(request)
            except Unavailable as unavailable:
                problem = unavailable
        raise problem or self._all_unavailable()

    async def _acquire(
        self, tried: Collection[PooledServer[Request, Response]]
    ) -> PooledServer[Request, Response] | None:
        """Waits for an available server with capacity and counts a request for it. Returns None if there is
        no server left that is available and was not tried."""
        try:
            async with asyncio.timeout(self._wait_seconds):
                while left := [one for one in self.servers if one.is_available and one not in tried]:
                    if with_capacity := [one for one in left if one.has_capacity]:
                        return self._choose(with_capacity)
                    await self._wait_for_change()
        except TimeoutError:
            raise Unavailable("all detector servers are busy", "DETECTOR_BUSY") from None
        return None

    def _choose(self, servers: Sequence[PooledServer[Request, Response]]) -> PooledServer[Request, Response]:
        """The server with the fewest requests in flight; equals take turns."""
        self._turn += 1
        rotated = [servers[(self._turn + index) % len(servers)] for index in range(len(servers))]
        server = min(rotated, key=lambda one: one.in_flight)
        server.in_flight += 1
        return server

    def _all_unavailable(self) -> Unavailable:
        return Unavailable("; ".join(one.last_error.message for one in self.servers), "DETECTOR_AWAY")

    async def _wait_for_change(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _wake_waiters(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
