# mypy: disable-error-code="untyped-decorator"
# (Strawberry types its decorators as Any where they are given a description.)
"""What is in flight, read in the order of the flow: nothing can slip past behind the reader's back."""

import strawberry
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info
from gateway.schema.gpu import Gpu, list_gpus, why_no_gpu
from gateway.schema.judge import ReasonStatus, read_judge
from gateway.schema.preview import why_unwatched
from gateway.schema.reading import read, read_if_set
from lares.detect.v1 import detect_service_pb2
from lares.ingest.v1 import ingest_service_pb2
from lares.store.v1 import event_service_pb2
from mesh.rpc import call


def _seconds(duration: Duration) -> float:
    return duration.ToTimedelta().total_seconds()


@strawberry.type
class IngestStatus:
    message: strawberry.Private[ingest_service_pb2.GetIngestStatusResponse]
    settling: int = read("settling", description="Files whose size has not settled.")
    unannounced: int = read("unannounced", description="Complete files not yet announced.")
    scanning: bool = read(
        "scanning",
        description="True until the scan made at start has ended, and while the watch lags behind.",
    )

    @property
    def busy(self) -> bool:
        return bool(self.message.settling or self.message.unannounced or self.message.scanning)


@strawberry.type(description="A server that the detector asks.")
class DetectorServer:
    message: strawberry.Private[detect_service_pb2.DetectorServer]
    address: str = read("address")
    available: bool = read("available", description="False while it is left alone after failures.")
    in_flight: int = read("in_flight")
    answered: float = read("answered", description="Since the start of the process.")
    failed: float = read("failed", description="Since the start of the process.")


@strawberry.type
class DetectStatus:
    message: strawberry.Private[detect_service_pb2.GetDetectStatusResponse]
    lag: int = read("lag", description="Announced photos not yet looked at.")
    detector: str = read("detector", description="Name and weights digest.")
    ready: bool = read("ready", description="Whether it could detect now.")
    detail: str = read("detail", description="Why it is not ready; empty otherwise.")

    @strawberry.field(description="Empty for a detector in the service's own process.")
    def servers(self) -> list[DetectorServer]:
        return [DetectorServer(message=server) for server in self.message.servers]

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
    oldest_due_at: Timestamp | None = read_if_set(
        "oldest_due_at", description="Since when the first of them waits, tried in vain or not."
    )
    recently_assessed: int = read("recently_assessed", description="Judgements of the last five minutes.")
    eta_seconds: float | None = read_if_set(
        "eta", _seconds, description="When all are judged at that pace; null while there is none."
    )

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
    # No part of `idle`, and asked for only where they are selected.
    reason: ReasonStatus = strawberry.field(resolver=read_judge)
    watch_problem: str | None = strawberry.field(
        resolver=why_unwatched,
        description="Which watched labels the detector cannot find; null where it can find all.",
    )
    gpus: list[Gpu] | None = strawberry.field(
        resolver=list_gpus, description="Where the detector runs, with up to 60 minutes of history."
    )
    no_gpu: str | None = strawberry.field(
        resolver=why_no_gpu, description="Why `gpus` is empty: no driver, or one that fails."
    )


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
