"""Liveness, readiness and metrics over HTTP."""

import asyncio
from collections.abc import Awaitable, Callable

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mesh.permissions import READ
from mesh.readiness import Readiness
from mesh.security import current_caller


class HealthEndpoint:
    """`/health` and `/ready` say what `/live` and `/ready` on LARES_METRICS_LISTEN say (mesh.readiness).
    `texts` are awaited for the metrics of this process and those of its siblings, and must not raise."""

    def __init__(self, readiness: Readiness, *texts: Callable[[], Awaitable[bytes]]) -> None:
        self._readiness, self._texts = readiness, texts

    async def live(self, _: Request) -> Response:
        return JSONResponse({"alive": True})

    async def ready(self, _: Request) -> Response:
        """This is open to everybody, so it names the dependencies that are not ready but not the reasons,
        which are logged."""
        report = await self._readiness.report()
        return JSONResponse(report, 200 if report["ready"] else 503)

    async def metrics(self, _: Request) -> Response:
        """Raises Denied. The numbers are cached for all callers, so no sibling checks the caller's permission
        and this does."""
        current_caller().require(READ)
        texts = await asyncio.gather(*(text() for text in self._texts))
        return Response(b"".join(texts), media_type=CONTENT_TYPE_LATEST)
