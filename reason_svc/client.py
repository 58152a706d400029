"""HTTP to an LLM server: the only user of aiohttp."""

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
from mesh.telemetry.spans import CLIENT, span
from reason_svc.replies import ANSWER_TOO_LONG, Reply

CONNECT_SECONDS = 5.0
MOST_BYTES = 256 * 2**10
UNREACHABLE = "LLM_UNREACHABLE"
# A connection that was good once and is not any more.
DROPPED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError)
NO_CONNECTION = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class Client:
    """Asks and is answered in JSON. Keeps no deadline but that of connecting: the caller's is the whole's.

    Both methods raise Unavailable LLM_UNREACHABLE when nobody takes a connection, Internal ANSWER_TOO_LONG,
    and Internal LLM_DROPPED or LLM_FAILED for what is no whole answer of HTTP.
    """

    def __init__(self, pooled: aiohttp.ClientSession, fresh: aiohttp.ClientSession) -> None:
        self._pooled, self._fresh = pooled, fresh

    async def get(self, url: str) -> Reply:
        return await self._ask("GET", url, None)

    async def post(self, url: str, body: object) -> Reply:
        return await self._ask("POST", url, body)

    async def _ask(self, method: str, url: str, body: object) -> Reply:
        place = urlsplit(url)
        about = {
            "http.request.method": method,
            "server.address": place.hostname or "",
            "url.path": place.path,
        }
        with span(f"{method} {place.path}", about, CLIENT) as asking:
            reply = await self._answer(method, url, body)
            asking.set_attribute("http.response.status_code", reply.status)
            return reply

    async def _answer(self, method: str, url: str, body: object) -> Reply:
        try:
            try:
                return await _once(self._pooled, method, url, body)
            except NO_CONNECTION:
                raise
            except DROPPED:
                # A pooled connection may have died unseen; on a fresh one the server itself would have to.
                return await _once(self._fresh, method, url, body)
        except NO_CONNECTION as error:
            raise Unavailable(f"no connection to the LLM server: {_kind(error)}", UNREACHABLE) from None
        except DROPPED:
            raise Internal("the LLM server broke the connection twice", "LLM_DROPPED") from None
        except aiohttp.ClientError as error:
            raise Internal(f"the LLM server speaks no HTTP: {type(error).__name__}", "LLM_FAILED") from None


@asynccontextmanager
async def open_client(key: str, ca: Path | None) -> AsyncIterator[Client]:
    """`key` is sent as Bearer; an https server is checked by `ca` (PEM), or by what the system trusts. Raises
    Invalid BAD_SETTING."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError):
        raise Invalid("LARES_REASONER_CA: this file holds no certificates", "BAD_SETTING") from None
    options: dict[str, Any] = {
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
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
        yield Client(pooled, fresh)


async def _once(session: aiohttp.ClientSession, method: str, url: str, body: object) -> Reply:
    if session.closed:  # while the process stops, a program may still be asking
        raise Unavailable("the judge is being closed", UNREACHABLE)
    async with session.request(method, url, json=body, allow_redirects=False) as answer:
        content = bytearray()
        async for chunk in answer.content.iter_chunked(2**16):
            content += chunk
            if len(content) > MOST_BYTES:
                raise Internal(f"the LLM server's answer exceeds {MOST_BYTES} bytes", ANSWER_TOO_LONG)
        return Reply(answer.status, answer.headers.get("Server", ""), _json(bytes(content)))


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _kind(error: Exception) -> str:
    """Its cause in words, without an address."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not one of LARES_REASONER_CA"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        return os.strerror(error.os_error.errno)
    return f"none within {CONNECT_SECONDS:g} s" if isinstance(error, TimeoutError) else type(error).__name__
