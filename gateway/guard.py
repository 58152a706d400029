"""Who may come in. API keys come in headers (or in a socket's first message), never in cookies: what another
site makes a browser send has none, so there is nothing to forge. CORS headers are never sent."""

import re
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from opentelemetry.trace import StatusCode
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.faults import masked, request_id, response
from gateway.metrics import Metrics
from mesh.key_verifier import KeyVerifier
from mesh.problems import Denied
from mesh.security import EVERYBODY, Caller, caller
from mesh.telemetry.redaction import redacted
from mesh.telemetry.spans import request_span
from mesh.telemetry.trace_context import REQUEST_ID, TRACEPARENT, enter_request

OPEN = frozenset({"/health", "/ready"})
# Asked for every few seconds, by programs.
UNTRACED = OPEN | {"/metrics"}
# What may go into gRPC metadata and logs as it came.
HARMLESS = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class Doorkeeper:
    """Turns what a request shows into its caller. `keys` None takes everybody in who is not sent by another
    site: then there is no key that a browser would have to know."""

    def __init__(self, keys: KeyVerifier | None) -> None:
        self._keys = keys

    async def admit(self, secret: str, headers: Headers) -> Caller:
        """Raises Unauthenticated, Denied FOREIGN_ORIGIN, and Unavailable where nobody can tell."""
        if self._keys:
            return await self._keys.verify(secret)
        origin = headers.get("origin")
        if origin and urlsplit(origin).netloc != headers.get("host"):
            raise Denied("requests from other sites are not answered", "FOREIGN_ORIGIN")
        return EVERYBODY


class Guard:
    """ASGI middleware around everything: request id, caller, masked errors, counters."""

    def __init__(self, app: ASGIApp, doorkeeper: Doorkeeper, metrics: Metrics) -> None:
        self._app, self._doorkeeper, self._metrics = app, doorkeeper, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        ids = {name: value for name in (REQUEST_ID, TRACEPARENT) if (value := _harmless(headers.get(name)))}
        if scope["type"] != "http":
            enter_request(ids)
            await self._app(scope, receive, send)
        elif scope["path"] in UNTRACED:
            enter_request(ids)
            await self._answer(scope, receive, send, headers)
        else:
            method, path = scope["method"], redacted(scope["path"])
            about = {"http.request.method": method, "url.path": path}
            with request_span(ids, f"{method} /{path[1:].partition('/')[0]}", about) as span:
                status = await self._answer(scope, receive, send, headers)
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(StatusCode.ERROR)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> int:
        """Returns the status of the response."""
        began, status = time.monotonic(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _label(message)
            await send(message)

        try:
            if scope["path"] not in OPEN:
                caller.set(await self._doorkeeper.admit(secret_of(headers), headers))
            await self._app(scope, receive, answer)
        except Exception as error:
            if status:
                raise
            await response(masked(error))(scope, receive, answer)
        finally:
            self._metrics.answered(scope["path"], status, time.monotonic() - began)
        return status


def secret_of(headers: Mapping[str, str]) -> str:
    """The API key of `x-api-key`, else of `authorization: Bearer`; empty where there is none."""
    key = headers.get("x-api-key")
    if key:
        return key.strip()
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _label(message: Message) -> None:
    headers = MutableHeaders(raw=message["headers"])
    headers[REQUEST_ID] = request_id()
    headers["x-content-type-options"] = "nosniff"


def _harmless(value: str | None) -> str:
    return value if value and HARMLESS.fullmatch(value) else ""
