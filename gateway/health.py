"""Is it alive, is it ready, how is it doing."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection

import structlog
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.metrics import Metrics
from mesh.permissions import READ
from mesh.security import current_caller

log = structlog.get_logger(__name__)

REMEMBERED_SECONDS = 0.5


class Health:
    """`missing` asks every dependency, and says why of those that are not ready; `parts` names them all.
    `refresh` is awaited before the metrics are written; it never fails."""

    def __init__(
        self,
        missing: Callable[[], Awaitable[dict[str, str]]],
        parts: Collection[str],
        metrics: Metrics,
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        self._missing, self._parts, self._metrics, self._refresh = missing, parts, metrics, refresh
        self._known: dict[str, str] = {}
        self._until = 0.0
        self._asking = asyncio.Lock()

    async def live(self, _: Request) -> Response:
        return JSONResponse({"alive": True})

    async def ready(self, _: Request) -> Response:
        """Open to everybody, so it says which, never why: that is in the log."""
        missing = await self._ask()
        checks = {part: part not in missing for part in sorted(self._parts)}
        return JSONResponse({"ready": not missing, "checks": checks}, 503 if missing else 200)

    async def metrics(self, _: Request) -> Response:
        """Raises Denied. The answers are shared, so it is here that the caller's permission is looked at."""
        current_caller().require(READ)
        await asyncio.gather(self._ask(), self._refresh())
        return Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def _ask(self) -> dict[str, str]:
        """Remembered for a moment: who may ask without a key must not make work."""
        async with self._asking:
            if time.monotonic() >= self._until:
                missing = await self._missing()
                if missing != self._known:
                    log.info("readiness", missing=missing)
                self._known, self._until = missing, time.monotonic() + REMEMBERED_SECONDS
                for part in self._parts:
                    self._metrics.checked(part, part not in missing)
            return self._known
