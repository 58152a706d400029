"""What is in flight, read in the order of the flow: nothing can slip past behind the reader's back."""

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info
from gateway.schema.reading import read
from lares.detect.v1 import detect_service_pb2
from lares.ingest.v1 import ingest_service_pb2
from lares.store.v1 import event_service_pb2
from mesh.rpc import call


@strawberry.type
class IngestStatus:
    message: strawberry.Private[ingest_service_pb2.GetIngestStatusResponse]
    settling: int = read("settling", description="Files whose size has not settled.")
    unannounced: int = read("unannounced", description="Complete files not yet announced.")
    scanning: bool = read("scanning", description="True until the scan made at start has ended.")

    @property
    def busy(self) -> bool:
        return bool(self.message.settling or self.message.unannounced or self.message.scanning)


@strawberry.type
class DetectStatus:
    message: strawberry.Private[detect_service_pb2.GetDetectStatusResponse]
    lag: int = read("lag", description="Announced photos not yet looked at.")

    @property
    def busy(self) -> bool:
        return bool(self.message.lag)


@strawberry.type
class StoreStatus:
    message: strawberry.Private[event_service_pb2.GetStoreStatusResponse]
    detections_lag: int = read("detections_lag")
    rejections_lag: int = read("rejections_lag")
    assessments_lag: int = read("assessments_lag")
    open_events: int = read("open_events")
    due_events: int = read("due_events", description="Waiting for a judge, leased ones included.")
    leased_events: int = read("leased_events")
    outbox: int = read("outbox", description="Changes not yet on their topics.")
    sequence: str = read("sequence", str, description="The newest cursor.")

    @strawberry.field
    def oldest_due_at(self) -> Timestamp | None:
        return self.message.oldest_due_at if self.message.HasField("oldest_due_at") else None

    @property
    def busy(self) -> bool:
        store = self.message
        lag = store.detections_lag or store.rejections_lag or store.assessments_lag
        return bool(lag or store.open_events or store.due_events or store.leased_events or store.outbox)


@strawberry.type
class Status:
    idle: bool = strawberry.field(description="Nothing is in flight anywhere.")
    ingest: IngestStatus
    detect: DetectStatus
    store: StoreStatus


async def read_status(info: Info) -> Status:
    siblings = info.context.siblings
    ingest = IngestStatus(
        message=await call(siblings.ingest.GetIngestStatus, ingest_service_pb2.GetIngestStatusRequest())
    )
    detect = DetectStatus(
        message=await call(siblings.detect.GetDetectStatus, detect_service_pb2.GetDetectStatusRequest())
    )
    store = StoreStatus(
        message=await call(siblings.events.GetStoreStatus, event_service_pb2.GetStoreStatusRequest())
    )
    idle = not (ingest.busy or detect.busy or store.busy)
    return Status(idle=idle, ingest=ingest, detect=detect, store=store)
