"""gRPC's health service. The state of this process is looked at when somebody asks for it."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

# Everybody may ask, so answers are kept for a moment.
FRESH_SECONDS = 0.5
# How often a state is looked at while somebody watches it.
WATCH_SECONDS = 2.0

# Takes the parts to check, None for all, and returns those that are missing.
Missing = Callable[[Collection[str] | None], Awaitable[Collection[str]]]


@dataclass
class _Answer:
    serving: bool = False
    fresh_until: float = 0.0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class HealthServicer(health_pb2_grpc.HealthServicer):
    """`needs` has, by the names of the services, the parts without which each cannot serve. The server as a
    whole, whose name is empty, needs all parts. It is not serving before `report`; services are, so that
    siblings can wait for each other while they start. At most `watches` may watch at the same time."""

    def __init__(self, needs: Mapping[str, Collection[str]], watches: float = math.inf) -> None:
        self._needs, self._room = needs, watches
        self._missing: Missing | None = None
        self._answers: dict[str, _Answer] = {}
        self._draining, self._stopping = asyncio.Event(), asyncio.Event()

    def report(self, missing: Missing) -> None:
        """From now on reports what `missing` finds."""
        self._missing = missing

    def drain(self) -> None:
        """From now on nothing is serving. Tells those who watch, who go on watching."""
        self._draining.set()

    def stop(self) -> None:
        """Drains, and ends the streams of those who watch."""
        self.drain()
        self._stopping.set()

    async def Check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:
        if not self._known(request.service):
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return await self._answer(request.service)

    async def Watch(self, request: HealthCheckRequest, context: Any) -> AsyncIterator[HealthCheckResponse]:
        if self._room <= 0:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watch")
        self._room -= 1
        try:
            async for answer in self._changes(request.service):
                yield answer
        finally:
            self._room += 1

    async def _changes(self, service: str) -> AsyncIterator[HealthCheckResponse]:
        told: HealthCheckResponse | None = None
        while True:
            drained, last = self._draining.is_set(), self._stopping.is_set()
            answer = await self._answer(service)
            if answer != told:
                yield answer
            if last:
                return
            told = answer
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS):
                    await (self._stopping if drained else self._draining).wait()

    def _known(self, service: str) -> bool:
        return not service or service in self._needs

    async def _answer(self, service: str) -> HealthCheckResponse:
        if not self._known(service):
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        serving = await self._serves(service) and not self._draining.is_set()
        return HealthCheckResponse(
            status=HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
        )

    async def _serves(self, service: str) -> bool:
        if self._draining.is_set():
            return False
        if self._missing is None:
            return bool(service)
        answer, now = self._answers.setdefault(service, _Answer()), asyncio.get_running_loop().time
        async with answer.asking:
            if now() >= answer.fresh_until:
                missing = await self._missing(self._needs[service] if service else None)
                answer.serving, answer.fresh_until = not missing, now() + FRESH_SECONDS
        return answer.serving
