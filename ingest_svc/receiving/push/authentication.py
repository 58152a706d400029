"""Who pushes: the key in a header, in basic or digest authentication, or in the query for cameras that can do
nothing else."""

import base64
import binascii
from asyncio import sleep
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Protocol

import structlog
from cachetools import TTLCache

from ingest_svc.receiving.push.digest_answer import Challenges, DigestAnswer
from ingest_svc.receiving.push.request import PushRequest
from mesh.http_digest import REALM, DigestAlgorithm
from mesh.problems import Denied, Exhausted, Unauthenticated
from mesh.security import EVERYBODY, Caller

log = structlog.get_logger(__name__)

# A failed attempt is answered later the more of them an address has made, and few of one address wait at a
# time.
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.25, 8.0
REMEMBERED_SECONDS, MAX_ADDRESSES, MAX_WAITING = 600.0, 4096, 8
STALE_NONCE = "STALE_NONCE"


class Keys(Protocol):
    """The part of mesh.key_verifier.KeyVerifier that this module uses."""

    async def verify(self, secret: str) -> Caller: ...

    async def verify_digest(
        self, camera_id: str, algorithm: DigestAlgorithm, hashed: str, response: str
    ) -> Caller: ...


class FailedAttempts:
    def __init__(self) -> None:
        self._failures: TTLCache[str, int] = TTLCache(MAX_ADDRESSES, REMEMBERED_SECONDS)
        self._waiting: Counter[str] = Counter()

    def require_few(self, address: str) -> None:
        """Raises Exhausted TOO_MANY_ATTEMPTS."""
        if self._waiting[_network(address)] >= MAX_WAITING:
            raise Exhausted("too many attempts with wrong keys come from this address", "TOO_MANY_ATTEMPTS")

    async def delay(self, address: str) -> None:
        """Call after an attempt that has failed."""
        network = _network(address)
        failures = self._failures[network] = self._failures.get(network, 0) + 1
        with self._one_waiting(network):
            await sleep(min(FIRST_DELAY_SECONDS * 2 ** min(failures - 1, 16), LONGEST_DELAY_SECONDS))

    @contextmanager
    def _one_waiting(self, network: str) -> Iterator[None]:
        self._waiting[network] += 1
        try:
            yield
        finally:
            self._waiting[network] -= 1
            if not self._waiting[network]:
                del self._waiting[network]


class PushAuthenticator:
    """Without `keys` authentication is off."""

    def __init__(self, keys: Keys | None) -> None:
        self._keys, self._failed, self._challenges = keys, FailedAttempts(), Challenges()

    async def authenticate(self, request: PushRequest) -> Caller:
        """Raises Unauthenticated (STALE_NONCE if only the nonce is too old), Denied FOREIGN_ORIGIN, Exhausted
        TOO_MANY_ATTEMPTS, or Unavailable if the store cannot check the key."""
        # No camera sends it, and a browser might send keys that it remembers for another site's page.
        if "origin" in request.headers:
            raise Denied("requests from web pages are not allowed", "FOREIGN_ORIGIN")
        if self._keys is None:
            return EVERYBODY
        key = key_of(request)
        answer = None if key else _digest_answer(request)
        if (
            not key and not answer
        ):  # not delayed: most cameras send their password only when they are asked for it
            raise Unauthenticated("an API key is needed: send it as the password", "NO_API_KEY")
        self._failed.require_few(request.address)
        try:
            return await (self._of_answer(request, answer) if answer else self._keys.verify(key))
        except Unauthenticated as refused:
            if refused.reason != STALE_NONCE:
                log.warning("push refused", address=request.address, reason=refused.reason)
                await self._failed.delay(request.address)
            raise

    async def _of_answer(self, request: PushRequest, answer: DigestAnswer) -> Caller:
        """The user is the camera's id. Raises Unauthenticated."""
        assert self._keys is not None
        if answer.uri not in (request.target, request.target_path):
            raise Unauthenticated("this answers for another path", "BAD_API_KEY")
        hashed = answer.hashed(request.method)
        caller = await self._keys.verify_digest(answer.user, answer.algorithm, hashed, answer.response)
        # Only now: nobody learns whether a nonce is known without a key.
        if not self._challenges.accepts(answer):
            raise Unauthenticated("this answers to an old challenge", STALE_NONCE)
        return caller

    def challenges(self, refused: Unauthenticated) -> list[str]:
        """The values of WWW-Authenticate, one for each way."""
        digests = self._challenges.headers(stale=refused.reason == STALE_NONCE)
        return [*digests, f'Basic realm="{REALM}", charset="UTF-8"']


def key_of(request: PushRequest) -> str:
    """Empty if there is none."""
    if key := request.headers.get("x-api-key", "").strip():
        return key
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() == "basic" and (password := _password(credentials.strip())):
        return password
    return request.query.get("key", "").strip()


def _digest_answer(request: PushRequest) -> DigestAnswer | None:
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    return DigestAnswer.parse(credentials) if scheme.lower() == "digest" else None


def _password(credentials: str) -> str:
    """The password, or the user's name if there is no password."""
    try:
        user, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return (password or user).strip()


def _network(address: str) -> str:
    """What belongs to one owner: an IPv4 address, or an IPv6 network."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else address
