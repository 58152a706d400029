"""ASGI middleware around every request: its id and trace, its caller, its errors and its metrics."""

import asyncio
import re
import time

from opentelemetry.trace import StatusCode
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import problem_response, request_id, visible_problem
from gateway.http.authentication import Authenticator, api_key_of
from gateway.http.metrics import GatewayMetrics
from mesh.problems import Unavailable
from mesh.security import caller
from mesh.telemetry.redaction import redacted
from mesh.telemetry.spans import is_tracing, request_span
from mesh.telemetry.trace_context import REQUEST_ID, TRACEPARENT, enter_request

OPEN_PATHS = frozenset({"/health", "/ready"})
FRONT_PAGE = "/"
# Programs request these every few seconds.
UNTRACED_PATHS = frozenset({"/health", "/ready", "/metrics"})
STOPPING = Unavailable("this gateway is stopping: a change may have been made or not", "STOPPING")
# What a client may put into gRPC metadata and logs.
SAFE_VALUE = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class RequestMiddleware:
    """Authenticates HTTP requests. A WebSocket authenticates itself, because its key may be in its first
    message."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator, metrics: GatewayMetrics) -> None:
        self._app, self._authenticator, self._metrics = app, authenticator, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        ids = {name: value for name in (REQUEST_ID, TRACEPARENT) if (value := _safe(headers.get(name)))}
        if scope["type"] != "http":
            enter_request(ids)
            await self._app(scope, receive, send)
        elif scope["path"] in UNTRACED_PATHS or not is_tracing():
            enter_request(ids)
            await self._respond(scope, receive, send, headers)
        else:
            method, path = scope["method"], redacted(scope["path"])
            attributes = {"http.request.method": method, "url.path": path}
            with request_span(ids, f"{method} /{path[1:].partition('/')[0]}", attributes) as span:
                status = await self._respond(scope, receive, send, headers)
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(StatusCode.ERROR)

    async def _respond(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> int:
        """Returns the status of the response."""
        started, status = time.monotonic(), 0

        async def send_response(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message)
            await send(message)

        try:
            if not _is_open(scope):
                caller.set(await self._authenticator.authenticate(api_key_of(headers), headers))
            await self._app(scope, receive, send_response)
        except Exception as error:
            if status:
                raise
            await problem_response(visible_problem(error))(scope, receive, send_response)
        except asyncio.CancelledError:  # by the server, which stops and has waited for long enough
            if status:
                raise
            await problem_response(STOPPING)(scope, receive, send_response)
        finally:
            self._metrics.observe_request(scope["path"], status, time.monotonic() - started)
        return status


def _is_open(scope: Scope) -> bool:
    """Whether a request needs no API key."""
    path: str = scope["path"]
    return path in OPEN_PATHS or (path == FRONT_PAGE and scope["method"] in ("GET", "HEAD"))


def _add_headers(message: Message) -> None:
    headers = ((REQUEST_ID, request_id()), ("x-content-type-options", "nosniff"))
    message["headers"].extend((name.encode(), value.encode()) for name, value in headers)


def _safe(value: str | None) -> str:
    return value if value and SAFE_VALUE.fullmatch(value) else ""
