"""lares.store.v1.RenditionService."""

from lares.store.v1 import rendition_service_pb2 as pb
from lares.store.v1.rendition_service_pb2_grpc import RenditionServiceServicer
from store_svc.api.waits import wait_seconds
from store_svc.renditions.rendition_requests import RenditionRequests


class RenditionServicer(RenditionServiceServicer):
    def __init__(self, requests: RenditionRequests) -> None:
        self._requests = requests

    async def RequestRendition(
        self, request: pb.RequestRenditionRequest, context: object
    ) -> pb.RequestRenditionResponse:
        timeout = wait_seconds(request.wait)
        rendition = await self._requests.request(request.kind, request.subject_id, timeout)
        return pb.RequestRenditionResponse(rendition=rendition)
