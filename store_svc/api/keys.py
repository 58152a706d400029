"""lares.store.v1.KeyService."""

from lares.store.v1 import key_service_pb2 as pb
from lares.store.v1.key_service_pb2_grpc import KeyServiceServicer
from mesh.problems import Invalid
from mesh.visible_text import visible
from store_svc.api_keys import ApiKeys


class KeyServicer(KeyServiceServicer):
    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    async def CreateKey(self, request: pb.CreateKeyRequest, context: object) -> pb.CreateKeyResponse:
        """Raises Invalid BAD_KEY_NAME or KEY_OF_A_CAMERA, and Denied NOT_PERMITTED."""
        # The name is shown in lists and in logs, one line for each key.
        if visible(request.name) != request.name or not request.name.strip():
            raise Invalid("a key's name has no line breaks or other control characters", "BAD_KEY_NAME")
        key, secret = await self._keys.create(request.name, frozenset(request.permissions), request.camera_id)
        return pb.CreateKeyResponse(key=key, secret=secret)

    async def ListKeys(self, request: pb.ListKeysRequest, context: object) -> pb.ListKeysResponse:
        return pb.ListKeysResponse(keys=await self._keys.all())

    async def RevokeKey(self, request: pb.RevokeKeyRequest, context: object) -> pb.RevokeKeyResponse:
        return pb.RevokeKeyResponse(key=await self._keys.revoke(request.key_id))
