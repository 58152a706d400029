"""What every service receives: settings, bus, blobs, its server, and channels to its siblings."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog

from mesh.blobs import Blobs
from mesh.bus import Bus
from mesh.config import Config
from mesh.key_verifier import KeyVerifier
from mesh.problems import Internal, Problem
from mesh.readiness import Readiness
from mesh.rpc import Channels, GrpcServer
from mesh.secret import Secret
from mesh.security import as_itself
from mesh.telemetry.metrics import Metrics
from mesh.tls.tls import Tls

log = structlog.get_logger(__name__)

CHECK_SECONDS = 3.0
# How long what is done before the server stops may take.
STOP_SECONDS = 10.0

Check = Callable[[], Awaitable[None]]


@dataclass
class Mesh:
    """What the services of one process share. Only the composition root makes one."""

    config: Config
    bus: Bus
    blobs: Blobs
    server: GrpcServer
    channels: Channels
    keys: KeyVerifier
    # Where the database and the reasoner are, with credentials: the settings, or the embedded parts.
    database_url: Secret = field(default_factory=lambda: Secret.of(""))
    reasoner_url: Secret = field(default_factory=lambda: Secret.of(""))
    # No other process uses the database.
    owns_database: bool = False
    # The addresses of this process, by kind: `gateway`, `grpc`, `kafka`, `metrics`.
    addresses: dict[str, str] = field(default_factory=dict)
    # Readiness checks, by part. A check raises while its part is not ready.
    checks: dict[str, Check] = field(default_factory=dict)
    # External parts that may become ready after the start.
    awaited: set[str] = field(default_factory=set)
    readiness: Readiness = field(default_factory=Readiness)
    metrics: Metrics = field(default_factory=Metrics)
    # None: this process has no TLS.
    tls: Tls | None = None
    # What is done before the server stops, while siblings can still be called: calls that take long end.
    before_stop: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    failure: "asyncio.Future[None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def __post_init__(self) -> None:
        self.readiness.follow(self.missing, self.checks)

    def channel(self, service: str) -> grpc.aio.Channel:
        """The channel to `ingest`, `detect`, `reason` or `store`, wherever it runs."""
        return self.channels.to(service)

    async def replicas(self, service: str) -> list[grpc.aio.Channel]:
        """A channel to each replica of a service, for calls whose answers are about one replica."""
        return await self.channels.replicas(service)

    async def missing(self, parts: Collection[str] | None = None) -> dict[str, str]:
        """Those of the given parts, or of all, that are not ready, with the reasons. The checks call siblings
        as the service itself."""
        checks = {part: check for part, check in self.checks.items() if parts is None or part in parts}

        async def ask(check: Check) -> str:
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await check()
            except Exception as error:
                return str(error) or type(error).__name__
            return ""

        with as_itself():
            answers = await asyncio.gather(*(ask(check) for check in checks.values()))
        return {part: why for part, why in zip(checks, answers, strict=True) if why}

    @asynccontextmanager
    async def running(self, name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        """Runs `work` until the block ends, then cancels and awaits it. It calls siblings as the service
        itself.

        If it ends in any other way, by an error, by a cancellation or by returning, the process stops with
        that error, so that a missing worker does not go unnoticed.
        """
        with as_itself():
            task = asyncio.create_task(work, name=name)
        closing = False

        def watch(ended: "asyncio.Task[None]") -> None:
            if not (closing and ended.cancelled()):
                self._fail(ended)

        task.add_done_callback(watch)
        try:
            yield
        finally:
            closing = not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def prepare_stop(self) -> None:
        """Call before the server stops. What does not end in time is cancelled, and the stop goes on."""
        try:
            with as_itself():
                async with asyncio.timeout(STOP_SECONDS):
                    await asyncio.gather(*(work() for work in self.before_stop))
        except TimeoutError:
            log.error("what is done before the server stops has not ended", seconds=STOP_SECONDS)

    def _fail(self, task: "asyncio.Task[None]") -> None:
        if self.failure.done():
            return
        cancelled = RuntimeError("cancelled from outside its block")
        error = (
            cancelled
            if task.cancelled()
            else task.exception() or RuntimeError("returned before its block ended")
        )
        if not isinstance(error, Problem):
            log.error("worker failed", worker=task.get_name(), exc_info=error)
            error = Internal(f"{task.get_name()}: {error!r}", "WORKER_FAILED")
        self.failure.set_exception(error)
