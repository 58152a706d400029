"""The servicer of lares.ingest.v1.IngestService."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC
from typing import Any

from ingest_svc.fingerprint import printable
from ingest_svc.folder_duty import Duty, FolderDuty
from ingest_svc.receiving.uploads import DeclaredUpload, Uploads
from lares.ingest.v1.ingest_service_pb2 import FolderDuty as FolderDutyMessage
from lares.ingest.v1.ingest_service_pb2 import (
    GetIngestStatusRequest,
    GetIngestStatusResponse,
    GetUploadRequest,
    GetUploadResponse,
    UploadHeader,
    UploadMediaRequest,
    UploadMediaResponse,
)
from lares.ingest.v1.ingest_service_pb2_grpc import IngestServiceServicer
from mesh.problems import Invalid
from mesh.telemetry.trace_context import outgoing_headers

# The most folders that a status names.
MAX_FOLDERS = 100
DUTIES = {
    Duty.WATCHING: FolderDutyMessage.FOLDER_DUTY_WATCHING,
    Duty.STANDING_BY: FolderDutyMessage.FOLDER_DUTY_STANDING_BY,
    Duty.NONE: FolderDutyMessage.FOLDER_DUTY_NONE,
}


class IngestServicer(IngestServiceServicer):
    def __init__(
        self,
        uploads: Uploads,
        duty: FolderDuty,
        warnings: Sequence[str] = (),
    ) -> None:
        self._uploads, self._duty, self._warnings = uploads, duty, warnings

    async def UploadMedia(
        self, request_iterator: AsyncIterator[UploadMediaRequest], context: Any
    ) -> UploadMediaResponse:
        first = await anext(request_iterator, UploadMediaRequest())
        if first.WhichOneof("part") != "header":
            raise Invalid("the first message must be the header", "HEADER_MISSING")
        declared = _declared(first.header)
        chunks, offset = _chunks(request_iterator), first.header.offset
        media_id = await self._uploads.receive(declared, chunks, outgoing_headers(), offset)
        return UploadMediaResponse(media_id=media_id)

    async def GetUpload(self, request: GetUploadRequest, context: Any) -> GetUploadResponse:
        received = await self._uploads.received(request.camera_id, request.sha256)
        response = GetUploadResponse(received_bytes=received.size)
        if received.expires_at is not None:
            response.expires_at.FromDatetime(received.expires_at)
        return response

    async def GetIngestStatus(self, request: GetIngestStatusRequest, context: Any) -> GetIngestStatusResponse:
        status = await self._duty.caught_up()
        return GetIngestStatusResponse(
            settling=status.settling,
            unannounced=status.unannounced + self._uploads.in_progress,
            scanning=status.scanning,
            problem=printable(status.problem or status.limit),
            warnings=self._warnings,
            folder_duty=DUTIES[self._duty.duty],
            watcher=printable(self._duty.watcher),
            unreadable_folders=[printable(folder) for folder in status.unreadable[:MAX_FOLDERS]],
        )


def _declared(header: UploadHeader) -> DeclaredUpload:
    try:
        captured_at = header.captured_at.ToDatetime(UTC) if header.HasField("captured_at") else None
    except (ValueError, OverflowError):
        raise Invalid("captured_at is out of range", "BAD_REQUEST") from None
    return DeclaredUpload(header.camera_id, header.sha256, header.size_bytes, captured_at, header.file_name)


async def _chunks(requests: AsyncIterator[UploadMediaRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise Invalid("only chunks may follow the header", "SECOND_HEADER")
        yield request.chunk
