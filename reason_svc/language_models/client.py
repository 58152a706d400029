"""HTTP client for LLM servers. The only user of aiohttp."""

import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from mesh.problems import Internal, Invalid, Unavailable
from mesh.secret import ParsedSecret
from mesh.telemetry.spans import CLIENT, span
from reason_svc.language_models.responses import ANSWER_TOO_LONG, DROPPED, UNREACHABLE, LlmResponse

CONNECT_SECONDS = 5.0
MAX_BYTES = 256 * 2**10
REFUSED = (401, 403)
# An established connection broke.
BROKEN = (
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientOSError,
    aiohttp.ClientPayloadError,
    aiohttp.ClientConnectionResetError,  # it was closed before the request was written
)
NO_CONNECTION = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class LlmClient:
    """Sends requests and decodes JSON responses. It has a deadline only for connecting; the caller sets one
    for the whole request.

    Both methods raise Unavailable LLM_UNREACHABLE if there is no connection, Internal ANSWER_TOO_LONG if the
    response exceeds 256 KiB, and Internal LLM_DROPPED or LLM_FAILED if there is no complete HTTP response.
    """

    def __init__(
        self, pooled: aiohttp.ClientSession, fresh: aiohttp.ClientSession, key: ParsedSecret[str]
    ) -> None:
        self._pooled, self._fresh, self._key = pooled, fresh, key

    async def get(self, url: str) -> LlmResponse:
        return await self._request("GET", url, None)

    async def post(self, url: str, body: object) -> LlmResponse:
        return await self._request("POST", url, body)

    async def _request(self, method: str, url: str, body: object) -> LlmResponse:
        parts = urlsplit(url)
        attributes = {
            "http.request.method": method,
            "server.address": parts.hostname or "",
            "url.path": parts.path,
        }
        with span(f"{method} {parts.path}", attributes, CLIENT) as request_span:
            key = self._key.value
            response = await self._send(method, url, body, key)
            if response.status in REFUSED and self._key.renewed(key):
                response = await self._send(method, url, body, self._key.value)
            request_span.set_attribute("http.response.status_code", response.status)
            return response

    async def _send(self, method: str, url: str, body: object, key: str) -> LlmResponse:
        try:
            try:
                return await _send_once(self._pooled, method, url, body, key)
            except NO_CONNECTION:
                raise
            except BROKEN:
                # A pooled connection may have been closed long ago; a fresh one can only break now.
                return await _send_once(self._fresh, method, url, body, key)
        except NO_CONNECTION as error:
            raise Unavailable(f"no connection to the LLM server: {_cause(error)}", UNREACHABLE) from None
        except BROKEN:
            raise Internal("the LLM server dropped the connection twice", DROPPED) from None
        except aiohttp.ClientError as error:
            raise Internal(
                f"the LLM server does not respond with HTTP: {type(error).__name__}", "LLM_FAILED"
            ) from None


@asynccontextmanager
async def open_llm_client(key: ParsedSecret[str], ca: Path | None) -> AsyncIterator[LlmClient]:
    """Opens a client that sends `key`, if it is not empty, as a Bearer token and verifies https servers by
    `ca` (PEM), or by the system's certificates. Raises Invalid BAD_SETTING if `ca` contains no
    certificates."""
    try:
        context = ssl.create_default_context(cafile=ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # whatever this Python was built with
    except (OSError, ssl.SSLError):
        raise Invalid("LARES_REASONER_CA: the file contains no certificates", "BAD_SETTING") from None
    options: dict[str, Any] = {
        "timeout": aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        "trust_env": False,
        "cookie_jar": aiohttp.DummyCookieJar(),
    }
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), **options) as pooled,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, force_close=True), **options
        ) as fresh,
    ):
        yield LlmClient(pooled, fresh, key)


async def _send_once(
    session: aiohttp.ClientSession, method: str, url: str, body: object, key: str
) -> LlmResponse:
    if session.closed:  # while the process stops, requests may still arrive
        raise Unavailable("the client of the LLM server is closed", UNREACHABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with session.request(method, url, json=body, headers=headers, allow_redirects=False) as response:
        content = bytearray()
        async for chunk in response.content.iter_chunked(2**16):
            content += chunk
            if len(content) > MAX_BYTES:
                raise Internal(f"the LLM server's answer exceeds {MAX_BYTES} bytes", ANSWER_TOO_LONG)
        return LlmResponse(response.status, response.headers.get("Server", ""), _decoded(bytes(content)))


def _decoded(content: bytes) -> Any:
    """The JSON value, or None if it is not JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _cause(error: Exception) -> str:
    """The cause in words, without the server's address."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not signed by LARES_REASONER_CA"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        return os.strerror(error.os_error.errno)
    return f"none within {CONNECT_SECONDS:g} s" if isinstance(error, TimeoutError) else type(error).__name__
