"""Authenticates requests by API key.

Keys are read from headers, or from the first message on a WebSocket, and never from cookies. A request that
another site makes a browser send therefore carries no key, and cross-site request forgery is not possible.
CORS headers are never sent."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from mesh.key_verifier import KeyVerifier
from mesh.problems import Denied
from mesh.security import EVERYBODY, Caller


class Authenticator:
    """Without `keys` authentication is off. Every request is accepted then, except those that another site
    made a browser send: no key would protect against them."""

    def __init__(self, keys: KeyVerifier | None) -> None:
        self._keys = keys

    async def authenticate(self, key: str, headers: Headers) -> Caller:
        """Raises Unauthenticated, Denied FOREIGN_ORIGIN, or Unavailable if the store cannot check the key."""
        if self._keys:
            return await self._keys.verify(key)
        origin = headers.get("origin")
        if origin and urlsplit(origin).netloc != headers.get("host"):
            raise Denied("requests from other sites are not allowed", "FOREIGN_ORIGIN")
        return EVERYBODY


def api_key_of(headers: Mapping[str, str]) -> str:
    """Returns the API key in `x-api-key`, or else in `authorization: Bearer`; empty if there is none."""
    key = headers.get("x-api-key")
    if key:
        return key.strip()
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
