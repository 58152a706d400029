"""lares.store.v1.KeyService."""

from lares.store.v1 import key_service_pb2 as pb
from lares.store.v1.key_service_pb2_grpc import KeyServiceServicer
from mesh.security import require_caller, require_sibling
from store_svc.keys import Keys


class KeyServicer(KeyServiceServicer):
    """Every key is an admin key so far: whoever has one may make and revoke others."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def CreateKey(self, request: pb.CreateKeyRequest, context: object) -> pb.CreateKeyResponse:
        require_caller()
        key, secret = await self._keys.create(request.name)
        return pb.CreateKeyResponse(key=key, secret=secret)

    async def ListKeys(self, request: pb.ListKeysRequest, context: object) -> pb.ListKeysResponse:
        require_caller()
        return pb.ListKeysResponse(keys=await self._keys.all())

    async def RevokeKey(self, request: pb.RevokeKeyRequest, context: object) -> pb.RevokeKeyResponse:
        require_caller()
        return pb.RevokeKeyResponse(key=await self._keys.revoke(request.key_id))

    async def VerifyKey(self, request: pb.VerifyKeyRequest, context: object) -> pb.VerifyKeyResponse:
        require_sibling()
        return pb.VerifyKeyResponse(key=await self._keys.verify(request.sha256))
