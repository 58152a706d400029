"""Liveness, readiness and metrics over HTTP."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection

import structlog
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.http.metrics import GatewayMetrics
from mesh.permissions import READ
from mesh.security import current_caller

log = structlog.get_logger(__name__)

CACHE_SECONDS = 0.5


class HealthEndpoint:
    """`check` checks every dependency and returns the reason for each that is not ready; `dependencies` names
    all of them. `refresh` is awaited before metrics are written, and must not raise."""

    def __init__(
        self,
        check: Callable[[], Awaitable[dict[str, str]]],
        dependencies: Collection[str],
        metrics: GatewayMetrics,
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        self._check, self._dependencies, self._metrics, self._refresh = check, dependencies, metrics, refresh
        self._missing: dict[str, str] = {}
        self._cached_until = 0.0
        self._checking = asyncio.Lock()

    async def live(self, _: Request) -> Response:
        return JSONResponse({"alive": True})

    async def ready(self, _: Request) -> Response:
        """This is open to everybody, so it names the dependencies that are not ready but not the reasons,
        which are logged."""
        missing = await self._missing_dependencies()
        checks = {name: name not in missing for name in sorted(self._dependencies)}
        return JSONResponse({"ready": not missing, "checks": checks}, 503 if missing else 200)

    async def metrics(self, _: Request) -> Response:
        """Raises Denied. The numbers are cached for all callers, so no sibling checks the caller's permission
        and this does."""
        current_caller().require(READ)
        await asyncio.gather(self._missing_dependencies(), self._refresh())
        return Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def _missing_dependencies(self) -> dict[str, str]:
        """Cached for a moment, so that requests without a key cause no load."""
        async with self._checking:
            if time.monotonic() >= self._cached_until:
                missing = await self._check()
                if missing != self._missing:
                    log.info("readiness changed", missing=missing)
                self._missing, self._cached_until = missing, time.monotonic() + CACHE_SECONDS
                for name in self._dependencies:
                    self._metrics.set_ready(name, name not in missing)
            return self._missing
