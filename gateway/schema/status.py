# mypy: disable-error-code="untyped-decorator"
# (Strawberry's decorators are typed as Any if they are given a description.)
"""What is in flight in Lares, and which part of it does not answer."""

import asyncio

import strawberry
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from gateway import replicas
from gateway.context import Info
from gateway.schema.camera import Camera, list_doubtful_cameras
from gateway.schema.certificate import Certificate, list_certificates
from gateway.schema.gpu import Gpu, list_gpus, why_no_gpu
from gateway.schema.message_fields import (
    FieldReader,
    message_field,
    optional_message_field,
    reader_field,
    to_list,
)
from gateway.schema.mode import HouseMode, read_mode_now
from gateway.schema.preview import read_watch_problem
from gateway.schema.reasoner import ReasonStatus, read_reason_status
from gateway.siblings import Siblings
from lares.detect.v1 import detect_service_pb2
from lares.ingest.v1 import ingest_service_pb2
from lares.store.v1 import event_service_pb2
from mesh.problems import Unavailable
from mesh.rpc import call


def _seconds(duration: Duration) -> float:
    return duration.ToTimedelta().total_seconds()


def _or_none(text: str) -> str | None:
    return text or None


@strawberry.type
class IngestStatus:
    message: strawberry.Private[ingest_service_pb2.GetIngestStatusResponse]
    settling: int = message_field("settling", description="Files that are still being written.")
    unannounced: int = message_field("unannounced", description="Complete files that are not announced yet.")
    scanning: bool = message_field(
        "scanning",
        description="True until the scan at start has ended, while the folders' watcher lags behind, and"
        " while there is a problem or a replica does not respond.",
    )
    problem: str | None = message_field(
        "problem",
        _or_none,
        description="Why photos cannot be taken in now: the cameras folder is away, the disk is full, or"
        " the state of ingest_svc is not known, nor are the counts; null if they can.",
    )
    unreadable_folders: list[str] = message_field(
        "unreadable_folders",
        to_list,
        description="Folders below the cameras folder that cannot be read now, at most 100 of them.",
    )
    warnings: list[str] = message_field(
        "warnings",
        to_list,
        description="What is allowed and others in the network can misuse, such as FTP without TLS.",
    )

    @property
    def busy(self) -> bool:
        return bool(self.message.settling or self.message.unannounced or self.message.scanning)


@strawberry.type(description="A server that the detector uses.")
class DetectorServer:
    message: strawberry.Private[detect_service_pb2.DetectorServer]
    address: str = message_field("address")
    available: bool = message_field(
        "available", description="False while the detector does not use it, after failures."
    )
    in_flight: int = message_field("in_flight", description="Requests that it has not answered yet.")
    answered: float = message_field("answered", description="Requests since the process started.")
    failed: float = message_field("failed", description="Requests since the process started.")


@strawberry.type
class DetectStatus:
    message: strawberry.Private[detect_service_pb2.GetDetectStatusResponse]
    lag: int = message_field(
        "lag",
        description="Announced photos that wait for the detector; 0 also while `problem` says that it is not"
        " known.",
    )
    problem: str | None = message_field(
        "problem",
        _or_none,
        description="Why `lag`, or the whole state of detect_svc, is not known: it or Kafka does not answer;"
        " null if they are known.",
    )
    detector: str = message_field(
        "detector", description="The name of the detector and the digest of its weights."
    )
    ready: bool = message_field("ready", description="Whether it can detect now.")
    detail: str = message_field("detail", description="Why it is not ready; empty if it is.")

    servers: list[DetectorServer] = message_field(
        "servers",
        list_of=DetectorServer,
        description="Empty if the detector runs in the service's own process.",
    )

    @property
    def busy(self) -> bool:
        return bool(self.message.lag or self.message.problem)


@strawberry.type(
    description="A lag counts the records of a topic that the store has not read yet; it is 0 also while"
    " `problem` says that it is not known."
)
class StoreStatus:
    message: strawberry.Private[event_service_pb2.GetStoreStatusResponse]
    known: strawberry.Private[bool] = True
    problem: str | None = message_field(
        "problem",
        _or_none,
        description="Why the lags, or all of these numbers, are not known: Kafka or store_svc does not"
        " answer; null if they are known.",
    )
    detections_lag: int = message_field("detections_lag")
    rejections_lag: int = message_field("rejections_lag")
    assessments_lag: int = message_field("assessments_lag")
    renditions_lag: int = message_field("renditions_lag")
    waiting_renditions: int = message_field(
        "waiting_renditions",
        description="Pictures and clips that wait to be made, including those that are being made.",
    )
    rendition_bytes: float = message_field(
        "rendition_bytes", float, description="The size of those that were made and are kept."
    )
    open_events: int = message_field("open_events")
    due_events: int = message_field(
        "due_events", description="Events that wait to be assessed, including those that are leased."
    )
    leased_events: int = message_field("leased_events", description="Events that are being assessed.")
    outbox: int = message_field("outbox", description="Changes that are not published on their topics yet.")
    sequence: str = reader_field(
        FieldReader("cursor"),
        description="The newest cursor of the feed; empty while store_svc does not answer.",
    )
    oldest_due_at: Timestamp | None = optional_message_field(
        "oldest_due_at",
        description="Since when the first of the due events has waited, whether or not attempts have failed.",
    )
    recently_assessed: int = message_field(
        "recently_assessed", description="Assessments in the last five minutes."
    )
    eta_seconds: float | None = optional_message_field(
        "eta",
        _seconds,
        description="The time until all due events are assessed at that rate; null if there is no rate.",
    )

    @property
    def cursor(self) -> str:
        return str(self.message.sequence) if self.known else ""

    @property
    def busy(self) -> bool:
        store = self.message
        lag = store.detections_lag or store.rejections_lag or store.assessments_lag or store.problem
        return bool(lag or store.open_events or store.due_events or store.leased_events or store.outbox)


@strawberry.type
class Status:
    idle: bool = strawberry.field(
        description="Nothing is in flight in `ingest`, `detect` and `store`; false while the state"
        " of one of them is not known."
    )
    ingest: IngestStatus
    detect: DetectStatus
    store: StoreStatus
    # These are not part of `idle`, and are asked for only if they are selected.
    reason: ReasonStatus = strawberry.field(resolver=read_reason_status)
    mode: HouseMode = strawberry.field(
        resolver=read_mode_now, description="The mode of the house; `lapsed` says that it counts as unset."
    )
    watch_problem: str | None = strawberry.field(
        resolver=read_watch_problem,
        description="Which watched labels the detector does not know; null if it knows all.",
    )
    cameras_with_warnings: list[Camera] = strawberry.field(
        resolver=list_doubtful_cameras,
        description="The cameras with zones or lines that are probably drawn wrongly; see their `warnings`.",
    )
    certificates: list[Certificate] = strawberry.field(
        resolver=list_certificates,
        description="The certificates of the gateway's process, and their CA; empty without TLS.",
    )
    gpus: list[Gpu] | None = strawberry.field(
        resolver=list_gpus,
        description="The GPUs of the machine where the detector runs, with up to 60 minutes of history.",
    )
    no_gpu: str | None = strawberry.field(
        resolver=why_no_gpu, description="Why `gpus` is empty: there is no driver, or it fails."
    )


async def read_status(info: Info) -> Status:
    """Asks all services at once, and each for as long as the other ones."""
    siblings, now = info.context.siblings, asyncio.get_running_loop().time
    deadline = now() + replicas.SECONDS
    ingest, detect, store = await asyncio.gather(
        _read_ingest(siblings, replicas.SECONDS),
        _read_detect(siblings, replicas.SECONDS),
        _read_store(siblings, replicas.SECONDS),
    )
    if not (ingest.busy or detect.busy or store.busy):
        # Meanwhile a piece of work may have moved from a service that was not asked yet to one that was. It
        # is found by asking again in the order in which work passes through them.
        detect = await _read_detect(siblings, deadline - now())
        store = await _read_store(siblings, deadline - now())
    idle = not (ingest.busy or detect.busy or store.busy)
    return Status(idle=idle, ingest=ingest, detect=detect, store=store)


# What is away is a problem of its own part of the status, and no error for the client.


async def _read_ingest(siblings: Siblings, timeout: float) -> IngestStatus:
    try:
        message = await replicas.ingest_status(siblings, timeout)
    except Unavailable as problem:
        message = ingest_service_pb2.GetIngestStatusResponse(scanning=True, problem=_away("ingest", problem))
    return IngestStatus(message=message)


async def _read_detect(siblings: Siblings, timeout: float) -> DetectStatus:
    try:
        message = await replicas.detect_status(siblings, timeout)
    except Unavailable as problem:
        away = _away("detect", problem)
        message = detect_service_pb2.GetDetectStatusResponse(detail=away, problem=away)
    return DetectStatus(message=message)


async def _read_store(siblings: Siblings, timeout: float) -> StoreStatus:
    request = event_service_pb2.GetStoreStatusRequest()
    try:
        return StoreStatus(message=await call(siblings.events.GetStoreStatus, request, timeout=timeout))
    except Unavailable as problem:
        message = event_service_pb2.GetStoreStatusResponse(problem=_away("store", problem))
        return StoreStatus(message=message, known=False)


def _away(service: str, problem: Unavailable) -> str:
    return f"the state of {service}_svc is not known: {problem.message}"
