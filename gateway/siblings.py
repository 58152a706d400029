"""gRPC stubs of the services behind the gateway."""

from collections.abc import Callable
from functools import cached_property

import grpc

from lares.detect.v1 import detect_service_pb2_grpc as detect_rpc
from lares.ingest.v1 import ingest_service_pb2_grpc as ingest_rpc
from lares.reason.v1 import reason_service_pb2_grpc as reason_rpc
from lares.store.v1 import camera_service_pb2_grpc as cameras_rpc
from lares.store.v1 import detection_service_pb2_grpc as detections_rpc
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from lares.store.v1 import house_service_pb2_grpc as house_rpc
from lares.store.v1 import media_service_pb2_grpc as media_rpc
from lares.store.v1 import rendition_service_pb2_grpc as renditions_rpc


class Siblings:
    """`channel` returns the channel to a service, given its name, or raises NO_PEER if no setting says where
    that service runs. The store's channel is opened at once, the others when they are first used."""

    def __init__(self, channel: Callable[[str], grpc.aio.Channel]) -> None:
        self._channel = channel
        store = channel("store")
        self.cameras = cameras_rpc.CameraServiceStub(store)
        self.events = events_rpc.EventServiceStub(store)
        self.house = house_rpc.HouseServiceStub(store)
        self.media = media_rpc.MediaServiceStub(store)
        self.renditions = renditions_rpc.RenditionServiceStub(store)
        self.detections = detections_rpc.DetectionServiceStub(store)

    @cached_property
    def ingest(self) -> "ingest_rpc.IngestServiceAsyncStub":
        return ingest_rpc.IngestServiceStub(self._channel("ingest"))

    @cached_property
    def detect(self) -> "detect_rpc.DetectServiceAsyncStub":
        return detect_rpc.DetectServiceStub(self._channel("detect"))

    @cached_property
    def reason(self) -> "reason_rpc.ReasonServiceAsyncStub":
        return reason_rpc.ReasonServiceStub(self._channel("reason"))
