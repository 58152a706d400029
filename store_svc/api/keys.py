"""lares.store.v1.KeyService."""

from lares.store.v1 import key_service_pb2 as pb
from lares.store.v1.key_service_pb2_grpc import KeyServiceServicer
from store_svc.api_keys import ApiKeys


class KeyServicer(KeyServiceServicer):
    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    async def CreateKey(self, request: pb.CreateKeyRequest, context: object) -> pb.CreateKeyResponse:
        key, secret = await self._keys.create(request.name)
        return pb.CreateKeyResponse(key=key, secret=secret)

    async def ListKeys(self, request: pb.ListKeysRequest, context: object) -> pb.ListKeysResponse:
        return pb.ListKeysResponse(keys=await self._keys.all())

    async def RevokeKey(self, request: pb.RevokeKeyRequest, context: object) -> pb.RevokeKeyResponse:
        return pb.RevokeKeyResponse(key=await self._keys.revoke(request.key_id))
