"""Challenges of HTTP digest authentication (RFC 7616), and the answers of cameras."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self
from urllib.request import parse_http_list, parse_keqv_list

from cachetools import TTLCache

from mesh.http_digest import REALM, DigestAlgorithm

# How long a camera may use a nonce. After that it is given another one, without asking its user.
NONCE_SECONDS, MAX_NONCES = 300.0, 4096


@dataclass(frozen=True)
class DigestAnswer:
    """An `Authorization: Digest ...` header. `count` is 1 for a client that does not count (RFC 2069)."""

    user: str
    algorithm: DigestAlgorithm
    uri: str
    nonce: str
    count: int
    # What is hashed between the user's digest and that of the request.
    middle: tuple[str, ...]
    response: str

    @classmethod
    def parse(cls, credentials: str) -> Self | None:
        """Returns None for what is no answer to a challenge of Lares."""
        try:
            given = parse_keqv_list(parse_http_list(credentials))
            algorithm = DigestAlgorithm(given.get("algorithm", "MD5").upper())
            if given["realm"] != REALM:
                return None
            nonce, count = given["nonce"], "1"
            middle: tuple[str, ...] = (nonce,)
            if "qop" in given:
                if given["qop"] != "auth":
                    return None
                count = given["nc"]
                middle = (nonce, count, given["cnonce"], "auth")
            response = given["response"].lower()
            return cls(given["username"], algorithm, given["uri"], nonce, int(count, 16), middle, response)
        except (KeyError, ValueError):
            return None

    def hashed(self, method: str) -> str:
        """What is hashed behind the user's digest."""
        return ":".join((*self.middle, self.algorithm.hex(method, self.uri)))


class Challenges:
    """Gives out nonces, and recognises its own. A nonce is known to the process that gave it out; another
    one gives out its own, and the camera answers again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._key = clock, secrets.token_bytes(32)
        self._counts: TTLCache[str, int] = TTLCache(MAX_NONCES, NONCE_SECONDS, timer=clock)

    def headers(self, *, stale: bool) -> list[str]:
        """The values of WWW-Authenticate, the best first. `stale`: the answer was right, but its nonce is too
        old."""
        nonce = self._nonce(f"{int(self._clock()):x}.{secrets.token_hex(8)}")
        tail = f'realm="{REALM}", qop="auth", nonce="{nonce}"' + (", stale=true" if stale else "")
        return [f"Digest algorithm={algorithm}, {tail}" for algorithm in ("SHA-256", "MD5")]

    def accepts(self, answer: DigestAnswer) -> bool:
        """Whether the nonce of a right answer may be used, and with this count for the first time."""
        given_out, _, _ = answer.nonce.rpartition(".")
        if not hmac.compare_digest(self._nonce(given_out).encode(), answer.nonce.encode()):
            return False
        if self._clock() - int(given_out.partition(".")[0], 16) > NONCE_SECONDS:
            return False
        if answer.count <= self._counts.get(answer.nonce, 0):
            return False
        self._counts[answer.nonce] = answer.count
        return True

    def _nonce(self, given_out: str) -> str:
        mark = hmac.new(self._key, given_out.encode(), hashlib.sha256).hexdigest()
        return f"{given_out}.{mark[:32]}"
