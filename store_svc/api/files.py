"""lares.store.internal.v1.FileService."""

from lares.store.internal.v1 import file_service_pb2 as pb
from lares.store.internal.v1.file_service_pb2_grpc import FileServiceServicer
from store_svc.database import Database
from store_svc.queries import media


class FileServicer(FileServiceServicer):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def ListUnknownFiles(
        self, request: pb.ListUnknownFilesRequest, context: object
    ) -> pb.ListUnknownFilesResponse:
        return pb.ListUnknownFilesResponse(unknown=await media.unknown_files(self._database, request.files))

    async def ListKnownMedia(
        self, request: pb.ListKnownMediaRequest, context: object
    ) -> pb.ListKnownMediaResponse:
        return pb.ListKnownMediaResponse(media_ids=await media.known_media(self._database, request.media_ids))
