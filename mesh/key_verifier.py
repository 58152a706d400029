"""Verifies API keys by asking the store, and remembers the result for seconds."""

import time

import grpc
from cachetools import TLRUCache

from lares.store.internal.v1 import key_check_service_pb2 as checks
from lares.store.internal.v1 import key_check_service_pb2_grpc as checks_rpc
from mesh.http_digest import DigestAlgorithm
from mesh.problems import Unauthenticated
from mesh.rpc import call
from mesh.security import Caller, as_itself, digest

REMEMBERED_SECONDS = 3.0
MAX_REMEMBERED = 1024
# As the contract numbers them.
ALGORITHMS = {
    DigestAlgorithm.MD5: checks.DIGEST_ALGORITHM_MD5,
    DigestAlgorithm.SHA_256: checks.DIGEST_ALGORITHM_SHA256,
}


class KeyVerifier:
    """Returns the Caller that a key belongs to. A revoked key is accepted for at most 3 s more."""

    def __init__(self, store: grpc.aio.Channel) -> None:
        self._stub = checks_rpc.KeyCheckServiceStub(store)
        self._known: TLRUCache[str, Caller] = TLRUCache(
            MAX_REMEMBERED, ttu=lambda _, __, now: now + REMEMBERED_SECONDS, timer=time.monotonic
        )

    async def verify(self, secret: str) -> Caller:
        """Raises Unauthenticated if the key is empty, unknown or revoked; Unavailable without a store."""
        if not secret:
            raise Unauthenticated("an API key is needed: send it as x-api-key", "NO_API_KEY")
        sha256 = digest(secret)
        known = self._known.get(sha256)
        if known is not None:
            return known
        with as_itself():
            answer = await call(self._stub.VerifyKey, checks.VerifyKeyRequest(sha256=sha256), timeout=5.0)
        may = frozenset(answer.permissions)
        verified = Caller.of_key(answer.key_id, answer.name, may, answer.camera_id)
        self._known[sha256] = verified
        return verified

    async def verify_digest(
        self, camera_id: str, algorithm: DigestAlgorithm, hashed: str, response: str
    ) -> Caller:
        """Returns the Caller with whose key an answer of HTTP digest authentication was made (see the
        contract). Raises Unauthenticated if there is none; Unavailable without a store."""
        request = checks.VerifyDigestRequest(
            camera_id=camera_id, algorithm=ALGORITHMS[algorithm], hashed=hashed, response=response
        )
        with as_itself():
            answer = await call(self._stub.VerifyDigest, request, timeout=5.0)
        return Caller.of_key(answer.key_id, answer.name, frozenset(answer.permissions), camera_id)
