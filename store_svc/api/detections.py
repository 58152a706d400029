"""lares.store.v1.DetectionService."""

from lares.store.v1 import detection_service_pb2 as pb
from lares.store.v1.detection_service_pb2_grpc import DetectionServiceServicer
from store_svc.database import Database
from store_svc.queries import detections


class DetectionServicer(DetectionServiceServicer):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def ListDetections(
        self, request: pb.ListDetectionsRequest, context: object
    ) -> pb.ListDetectionsResponse:
        parent = request.WhichOneof("parent") or "event_id"
        page = await detections.list_detections(
            self._database,
            parent,
            getattr(request, parent),
            request.zone_ids,
            request.page_size or 50,
            request.page_token,
            request.frame if request.HasField("frame") else None,
        )
        return pb.ListDetectionsResponse(
            detections=page.detections, page_tokens=page.page_tokens, next_page_token=page.next_page_token
        )

    async def BatchListDetections(
        self, request: pb.BatchListDetectionsRequest, context: object
    ) -> pb.BatchListDetectionsResponse:
        pages = await detections.first_detections(
            self._database, request.event_ids, request.media_ids, request.zone_ids, request.page_size or 50
        )
        return pb.BatchListDetectionsResponse(pages=pages)
