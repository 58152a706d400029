"""What every service is handed: settings, bus, blobs, its server, channels to its siblings."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
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
from mesh.rpc import Channels, GrpcServer
from mesh.security import as_itself

log = structlog.get_logger(__name__)

CHECK_SECONDS = 3.0

Check = Callable[[], Awaitable[None]]


@dataclass
class Mesh:
    """One process's view of the others. Made by the composition root alone."""

    config: Config
    bus: Bus
    blobs: Blobs
    server: GrpcServer
    channels: Channels
    keys: KeyVerifier
    database_url: str = ""
    # LARES_REASONER_URL, or where an LLM server of our own listens.
    reasoner_url: str = ""
    # Where this process can be reached, by kind: `gateway`, `grpc`, `kafka`.
    addresses: dict[str, str] = field(default_factory=dict)
    # Readiness, by part: raises while the part is not ready.
    checks: dict[str, Check] = field(default_factory=dict)
    # Parts of yours that may come later: readiness waits for them, the start does not.
    awaited: set[str] = field(default_factory=set)
    failure: "asyncio.Future[None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def channel(self, service: str) -> grpc.aio.Channel:
        """The channel to `ingest`, `detect`, `reason` or `store`, wherever it runs."""
        return self.channels.to(service)

    async def missing(self) -> dict[str, str]:
        """What is not ready: part -> why. Empty when everything is. Whoever wants to know, the process asks
        as itself."""

        async def ask(check: Check) -> str:
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await check()
            except Exception as error:
                return str(error) or type(error).__name__
            return ""

        with as_itself():
            answers = await asyncio.gather(*(ask(check) for check in self.checks.values()))
        return {part: why for part, why in zip(self.checks, answers, strict=True) if why}

    @asynccontextmanager
    async def running(self, name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        """Runs `work` until the block ends, then cancels and awaits it. It calls siblings as the service
        itself. If it fails, is cancelled by anything else or just ends, the process stops with that error: a
        worker that is gone must not go unnoticed."""
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

    def _fail(self, task: "asyncio.Task[None]") -> None:
        if self.failure.done():
            return
        cancelled = RuntimeError("cancelled, but not by its block")
        error = cancelled if task.cancelled() else task.exception() or RuntimeError("ended by itself")
        if not isinstance(error, Problem):
            log.error("worker failed", worker=task.get_name(), exc_info=error)
            error = Internal(f"{task.get_name()}: {error!r}", "WORKER_FAILED")
        self.failure.set_exception(error)
