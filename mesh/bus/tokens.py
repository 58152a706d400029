"""Bearer tokens for Kafka (SASL OAUTHBEARER), from a file or from an endpoint that issues them."""

import asyncio
import json
import math
import re
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import structlog

from mesh.bus.address import TokenSource
from mesh.problems import Denied, Invalid, Problem, Unavailable
from mesh.secret import read_secret_file

log = structlog.get_logger(__name__)

DEADLINE_SECONDS = 10.0
# How long before its expiry a token is replaced, and until when it is used if that fails.
EARLY_SECONDS, LAST_SECONDS = 60.0, 5.0
# Of tokens of which the endpoint does not say how long they are valid.
UNKNOWN_SECONDS = 120.0
MAX_BYTES = 64 * 1024
# RFC 6750, 2.1.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class Tokens(Protocol):
    async def token(self) -> str:
        """Raises Denied if none is given to this client, Invalid if it is none, and Unavailable."""

    def refused(self) -> None:
        """Kafka has not accepted the last one."""


class TokenFile:
    """A file that another program keeps up to date, such as a projected service account token. It is read
    for every connection."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def token(self) -> str:
        try:
            return _checked(read_secret_file(self._path), str(self._path))
        except ValueError as error:
            raise Unavailable(f"no token for Kafka: {error}", "BUS_TOKEN") from None

    def refused(self) -> None: ...


class TokenEndpoint:
    """An OAuth 2 token endpoint (client credentials). A token serves all connections until shortly before it
    expires."""

    def __init__(
        self,
        source: TokenSource,
        context: Callable[[], ssl.SSLContext],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._context, self._clock = source, context, clock
        self._fetching = asyncio.Lock()
        self._token, self._renew_at, self._expires_at = "", -math.inf, -math.inf

    async def token(self) -> str:
        async with self._fetching:
            now = self._clock()
            if now < self._renew_at:
                return self._token
            try:
                self._token, seconds = await self._fetch()
            except Problem as problem:
                if now < self._expires_at - LAST_SECONDS:
                    log.warning("token for Kafka not renewed, using the earlier one", error=problem.message)
                    return self._token
                raise
            self._expires_at = now + seconds
            self._renew_at = now + max(seconds - EARLY_SECONDS, seconds / 2)
            return self._token

    def refused(self) -> None:
        self._renew_at = self._expires_at = -math.inf

    async def _fetch(self) -> tuple[str, float]:
        """Returns a new token, and for how many seconds it is valid."""
        import aiohttp  # takes long to import, and few need it

        source = self._source
        form = {"grant_type": "client_credentials"} | ({"scope": source.scope} if source.scope else {})
        try:
            async with (
                aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=DEADLINE_SECONDS),
                    connector=aiohttp.TCPConnector(ssl=self._context()),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                ) as session,
                session.post(
                    source.endpoint,
                    data=form,
                    headers={
                        "Accept": "application/json",
                        "Authorization": aiohttp.encode_basic_auth(source.client_id, source.client_secret),
                    },
                    allow_redirects=False,
                ) as response,
            ):
                answer = await self._answer(response)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unavailable(str(error) or f"no response within {DEADLINE_SECONDS:g} s") from None
        if status in (400, 401, 403):
            raise Denied(
                f"the token endpoint {source.endpoint} refuses the client {source.client_id}:"
                f" {answer.get('error', status)}",
                "BUS_TOKEN_DENIED",
            )
        if status != 200:
            raise self._unavailable(f"status {status}")
        return _checked(answer.get("access_token"), source.endpoint), _lifetime(answer.get("expires_in"))

    async def _answer(self, response: Any) -> dict[str, Any]:
        """The JSON object in the response, or an empty one."""
        content = await response.content.read(MAX_BYTES)
        while more := await response.content.read(MAX_BYTES):
            content += more
            if len(content) > MAX_BYTES:
                raise self._unavailable(f"its response exceeds {MAX_BYTES} bytes")
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            return {}
        return answer if isinstance(answer, dict) else {}

    def _unavailable(self, reason: str) -> Unavailable:
        return Unavailable(f"no token for Kafka from {self._source.endpoint}: {reason}", "BUS_TOKEN")


def _checked(token: object, origin: str) -> str:
    """The token. It is not repeated in the Invalid that is raised if it is none."""
    if not isinstance(token, str) or len(token) > MAX_BYTES or not _TOKEN.fullmatch(token):
        raise Invalid(f"{origin} holds no bearer token", "BUS_TOKEN")
    return token


def _lifetime(seconds: object) -> float:
    try:
        found = float(seconds)  # type: ignore[arg-type]  # some write a number as text
    except (TypeError, ValueError):
        return UNKNOWN_SECONDS
    return found if 0 < found < 10**9 else UNKNOWN_SECONDS
