"""API keys as the edges see them: verified by the store, remembered for seconds."""

import time
from collections import OrderedDict

import grpc

from lares.store.internal.v1 import key_check_service_pb2 as checks
from lares.store.internal.v1 import key_check_service_pb2_grpc as checks_rpc
from mesh.problems import Unauthenticated
from mesh.rpc import call
from mesh.security import Caller, as_itself, digest

REMEMBERED_SECONDS = 3.0
REMEMBERED = 1024


class KeyVerifier:
    """Turns the plain text of a key into its Caller. A revoked key is refused after at most 3 s."""

    def __init__(self, store: grpc.aio.Channel) -> None:
        self._stub = checks_rpc.KeyCheckServiceStub(store)
        self._known: OrderedDict[str, tuple[float, Caller]] = OrderedDict()

    async def verify(self, secret: str) -> Caller:
        """Raises Unauthenticated for an empty, unknown or revoked key; Unavailable without a store."""
        if not secret:
            raise Unauthenticated("an API key is needed: send it as x-api-key", "NO_API_KEY")
        name = digest(secret)
        known = self._known.get(name)
        if known and known[0] > time.monotonic():
            return known[1]
        with as_itself():
            answer = await call(self._stub.VerifyKey, checks.VerifyKeyRequest(sha256=name), timeout=5.0)
        verified = Caller.of_key(answer.key_id, answer.name)
        self._known[name] = (time.monotonic() + REMEMBERED_SECONDS, verified)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return verified
