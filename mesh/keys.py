"""API keys as the edges see them: verified by the store, remembered for seconds."""

import time
from collections import OrderedDict

import grpc

from lares.store.v1 import key_service_pb2 as keys
from lares.store.v1 import key_service_pb2_grpc as keys_rpc
from mesh.problems import Unauthenticated
from mesh.rpc import call
from mesh.security import SIBLING, Caller, caller, digest

REMEMBERED_SECONDS = 3.0
REMEMBERED = 1024


class Keys:
    """Turns the plain text of a key into its Caller. A revoked key is refused after at most 3 s."""

    def __init__(self, store: grpc.aio.Channel) -> None:
        self._stub = keys_rpc.KeyServiceStub(store)
        self._known: OrderedDict[str, tuple[float, Caller]] = OrderedDict()

    async def verify(self, secret: str) -> Caller:
        """Raises Unauthenticated for an empty, unknown or revoked key; Unavailable without a store."""
        if not secret:
            raise Unauthenticated("an API key is needed: send it as x-api-key", "NO_API_KEY")
        name = digest(secret)
        known = self._known.get(name)
        if known and known[0] > time.monotonic():
            return known[1]
        token = caller.set(SIBLING)
        try:
            answer = await call(self._stub.VerifyKey, keys.VerifyKeyRequest(sha256=name), timeout=5.0)
        finally:
            caller.reset(token)
        verified = Caller("key", answer.key.id, answer.key.name)
        self._known[name] = (time.monotonic() + REMEMBERED_SECONDS, verified)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return verified
