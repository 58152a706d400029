"""lares.store.internal.v1.KeyCheckService."""

from lares.store.internal.v1 import key_check_service_pb2 as pb
from lares.store.internal.v1.key_check_service_pb2_grpc import KeyCheckServiceServicer
from mesh.key_verifier import ALGORITHMS
from store_svc.api_keys import ApiKeys

BY_NUMBER = {number: algorithm for algorithm, number in ALGORITHMS.items()}


class KeyCheckServicer(KeyCheckServiceServicer):
    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    async def VerifyKey(self, request: pb.VerifyKeyRequest, context: object) -> pb.VerifyKeyResponse:
        key = await self._keys.verify(request.sha256)
        return pb.VerifyKeyResponse(
            key_id=key.id, name=key.name, permissions=key.permissions, camera_id=key.camera_id
        )

    async def VerifyDigest(self, request: pb.VerifyDigestRequest, context: object) -> pb.VerifyDigestResponse:
        algorithm = BY_NUMBER[request.algorithm]
        key = await self._keys.verify_digest(request.camera_id, algorithm, request.hashed, request.response)
        return pb.VerifyDigestResponse(key_id=key.id, name=key.name, permissions=key.permissions)
