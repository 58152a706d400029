"""The HTTP endpoint of any process: `/live`, `/started`, `/ready` and `/metrics` on LARES_METRICS_LISTEN.

It has no key, so it tells numbers, states and the names of parts, and nothing about the house. It answers
while the process still starts, and until it has ended.

`/ready?without=kafka,store` leaves parts out, for load balancers: when all replicas lack the same part,
turning away from all of them would only keep the answers that they have from clients.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from prometheus_client import CONTENT_TYPE_LATEST

from mesh.readiness import Readiness
from mesh.telemetry.metrics import Metrics

JSON = "application/json"
Query = dict[str, list[str]]


class ProcessEndpoint:
    """The ASGI application."""

    def __init__(self, readiness: Readiness, metrics: Metrics) -> None:
        self._readiness, self._metrics = readiness, metrics
        self._paths: dict[str, Callable[[Query], Awaitable[tuple[int, str, bytes]]]] = {
            "/live": self._live,
            "/started": self._started,
            "/ready": self._ready,
            "/metrics": self._numbers,
        }

    async def __call__(self, scope: Any, _: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        path = self._paths.get(scope["path"])
        query = parse_qs(scope["query_string"].decode(errors="replace"))
        if path is None:
            status, kind, body = 404, JSON, _json(error="there is no such page")
        elif scope["method"] not in ("GET", "HEAD"):
            status, kind, body = 405, JSON, _json(error="only GET")
        else:
            status, kind, body = await path(query)
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _live(self, _: Query) -> tuple[int, str, bytes]:
        return 200, JSON, _json(live=True)

    async def _started(self, _: Query) -> tuple[int, str, bytes]:
        started = self._readiness.started
        return 200 if started else 503, JSON, _json(started=started)

    async def _ready(self, query: Query) -> tuple[int, str, bytes]:
        """Without the reasons, which are logged: they may name addresses."""
        without = ",".join(query.get("without", [])).split(",")
        report = await self._readiness.report(without)
        return 200 if report["ready"] else 503, JSON, _json(**report)

    async def _numbers(self, _: Query) -> tuple[int, str, bytes]:
        return 200, CONTENT_TYPE_LATEST, await self._metrics.text()


def _json(**fields: object) -> bytes:
    return json.dumps(fields).encode()
