"""lares.store.v1.MediaService."""

from lares.store.v1 import media_service_pb2 as pb
from lares.store.v1.media_service_pb2_grpc import MediaServiceServicer
from store_svc.database import Database
from store_svc.queries import media


class MediaServicer(MediaServiceServicer):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def GetMedia(self, request: pb.GetMediaRequest, context: object) -> pb.GetMediaResponse:
        return pb.GetMediaResponse(media=await media.get_media(self._database, request.media_id))

    async def ListMedia(self, request: pb.ListMediaRequest, context: object) -> pb.ListMediaResponse:
        size = request.page_size or 50
        return await media.list_media(self._database, request.camera_ids, size, request.page_token)

    async def BatchGetMedia(
        self, request: pb.BatchGetMediaRequest, context: object
    ) -> pb.BatchGetMediaResponse:
        return pb.BatchGetMediaResponse(media=await media.batch_media(self._database, request.media_ids))

    async def BatchListEventMedia(
        self, request: pb.BatchListEventMediaRequest, context: object
    ) -> pb.BatchListEventMediaResponse:
        found = await media.media_of_events(self._database, request.event_ids)
        return pb.BatchListEventMediaResponse(events=found)

    async def BatchListFrames(
        self, request: pb.BatchListFramesRequest, context: object
    ) -> pb.BatchListFramesResponse:
        found = await media.frames_of(self._database, request.media_ids)
        return pb.BatchListFramesResponse(media=found)

    async def ListRejections(
        self, request: pb.ListRejectionsRequest, context: object
    ) -> pb.ListRejectionsResponse:
        return await media.list_rejections(self._database, request.page_size or 50, request.page_token)
