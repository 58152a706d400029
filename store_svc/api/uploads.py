"""lares.store.internal.v1.UploadService."""

from lares.store.internal.v1 import upload_service_pb2 as pb
from lares.store.internal.v1.upload_service_pb2_grpc import UploadServiceServicer
from store_svc.ids import parse_uuid
from store_svc.times import stamp
from store_svc.uploads import UploadBegin, UploadTable


class UploadServicer(UploadServiceServicer):
    def __init__(self, uploads: UploadTable) -> None:
        self._uploads = uploads

    async def BeginUpload(self, request: pb.BeginUploadRequest, context: object) -> pb.BeginUploadResponse:
        begun = await self._uploads.begin(
            UploadBegin(
                request.caller_id,
                request.camera_id,
                request.sha256,
                request.size_bytes,
                request.offset,
                request.quota_bytes,
                request.holder,
                request.lease_length.ToTimedelta(),
            )
        )
        return pb.BeginUploadResponse(
            upload_id=str(begun.id),
            lease_token=begun.token,
            parts=[pb.UploadPart(name=row["name"], size_bytes=row["size_bytes"]) for row in begun.parts],
            arrived_at=stamp(begun.arrived_at),
            forgotten_ids=map(str, begun.forgotten),
        )

    async def ReserveUpload(
        self, request: pb.ReserveUploadRequest, context: object
    ) -> pb.ReserveUploadResponse:
        token, size = request.lease_token, request.size_bytes
        forgotten = await self._uploads.reserve(token, size, request.quota_bytes)
        return pb.ReserveUploadResponse(forgotten_ids=map(str, forgotten))

    async def AddUploadPart(
        self, request: pb.AddUploadPartRequest, context: object
    ) -> pb.AddUploadPartResponse:
        part = request.part
        await self._uploads.add_part(request.lease_token, request.start, part.name, part.size_bytes)
        return pb.AddUploadPartResponse()

    async def NameUpload(self, request: pb.NameUploadRequest, context: object) -> pb.NameUploadResponse:
        arrived_at = await self._uploads.name(request.lease_token, request.sha256)
        return pb.NameUploadResponse(arrived_at=stamp(arrived_at))

    async def EndUpload(self, request: pb.EndUploadRequest, context: object) -> pb.EndUploadResponse:
        await self._uploads.end(request.lease_token, keep=request.keep)
        return pb.EndUploadResponse()

    async def FindUpload(self, request: pb.FindUploadRequest, context: object) -> pb.FindUploadResponse:
        found = await self._uploads.find(request.caller_id, request.camera_id, request.sha256)
        received, expires_at = found
        return pb.FindUploadResponse(
            received_bytes=received, expires_at=None if expires_at is None else stamp(expires_at)
        )

    async def ExpireUploads(
        self, request: pb.ExpireUploadsRequest, context: object
    ) -> pb.ExpireUploadsResponse:
        left = await self._uploads.expire([parse_uuid(id) for id in request.upload_ids])
        return pb.ExpireUploadsResponse(upload_ids=map(str, left))
