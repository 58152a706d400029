"""gRPC stubs of the services behind the gateway."""

from collections.abc import Awaitable, Callable

import grpc

from lares.store.v1 import camera_service_pb2_grpc as cameras_rpc
from lares.store.v1 import detection_service_pb2_grpc as detections_rpc
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from lares.store.v1 import house_service_pb2_grpc as house_rpc
from lares.store.v1 import media_service_pb2_grpc as media_rpc
from lares.store.v1 import rendition_service_pb2_grpc as renditions_rpc

Replicas = Callable[[str], Awaitable[list[grpc.aio.Channel]]]


class Siblings:
    """`channel` returns the channel to a service, given its name, or raises NO_PEER if no setting says where
    that service runs; `replicas` returns the channels to all of its replicas (see gateway.replicas)."""

    def __init__(self, channel: Callable[[str], grpc.aio.Channel], replicas: Replicas | None = None) -> None:
        self._channel = channel
        self.replicas = replicas or self._only_one
        store = channel("store")
        self.cameras = cameras_rpc.CameraServiceStub(store)
        self.events = events_rpc.EventServiceStub(store)
        self.house = house_rpc.HouseServiceStub(store)
        self.media = media_rpc.MediaServiceStub(store)
        self.renditions = renditions_rpc.RenditionServiceStub(store)
        self.detections = detections_rpc.DetectionServiceStub(store)

    async def _only_one(self, service: str) -> list[grpc.aio.Channel]:
        return [self._channel(service)]
