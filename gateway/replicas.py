"""The state of a service of which several replicas may run: asks all of them, and makes one answer of theirs.

Counts and capacities are sums. The service can do what one of its replicas can do.
"""

from collections.abc import Iterable, Sequence

from gateway.siblings import Siblings
from lares.detect.v1 import detect_service_pb2 as detect
from lares.detect.v1.detect_service_pb2_grpc import DetectServiceStub
from lares.ingest.v1 import ingest_service_pb2 as ingest
from lares.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from lares.reason.v1 import reason_service_pb2 as reason
from lares.reason.v1.reason_service_pb2_grpc import ReasonServiceStub
from mesh.rpc.replicas import ask_each

SECONDS = 4.0
# From the best to the worst.
STATES = (
    reason.REASONER_STATE_READY,
    reason.REASONER_STATE_LOADING,
    reason.REASONER_STATE_FAILING,
    reason.REASONER_STATE_UNREACHABLE,
    reason.REASONER_STATE_UNSPECIFIED,
)
REASON_SUMS = (
    "slots",
    "assessing",
    "assessed",
    "failed",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
)


async def reason_status(siblings: Siblings, timeout: float = SECONDS) -> reason.GetReasonStatusResponse:
    answers = await ask_each(
        await siblings.replicas("reason"),
        lambda channel: ReasonServiceStub(channel).GetReasonStatus,
        reason.GetReasonStatusRequest(),
        timeout=timeout,
    )
    merged = reason.GetReasonStatusResponse()
    merged.CopyFrom(min(answers, key=_rank))
    if merged.state not in STATES:
        merged.state = reason.REASONER_STATE_UNSPECIFIED
    for name in REASON_SUMS:
        setattr(merged, name, sum(getattr(answer, name) for answer in answers))
    return merged


def _rank(answer: reason.GetReasonStatusResponse) -> int:
    """The smaller, the better. A state that a newer version has added is the worst: what it means is not
    known here."""
    return STATES.index(answer.state) if answer.state in STATES else len(STATES)


async def detect_status(siblings: Siblings, timeout: float = SECONDS) -> detect.GetDetectStatusResponse:
    answers = await ask_each(
        await siblings.replicas("detect"),
        lambda channel: DetectServiceStub(channel).GetDetectStatus,
        detect.GetDetectStatusRequest(),
        timeout=timeout,
    )
    merged = detect.GetDetectStatusResponse()
    merged.CopyFrom(max(answers, key=lambda answer: answer.ready))
    # Each knows of the others only what they have reported, so the smallest number is the latest.
    known = [answer for answer in answers if not answer.problem]
    merged.lag = min((answer.lag for answer in known), default=0)
    merged.problem = "" if known else answers[0].problem
    del merged.servers[:]
    merged.servers.extend(_servers(server for answer in answers for server in answer.servers))
    return merged


def _servers(servers: Iterable[detect.DetectorServer]) -> Iterable[detect.DetectorServer]:
    """One entry for each address. A server is available if one replica uses it."""
    merged: dict[str, detect.DetectorServer] = {}
    for server in servers:
        one = merged.setdefault(server.address, detect.DetectorServer(address=server.address))
        one.available |= server.available
        one.in_flight += server.in_flight
        one.answered += server.answered
        one.failed += server.failed
    return merged.values()


async def list_gpus(siblings: Siblings, minutes: int, timeout: float = SECONDS) -> detect.ListGpusResponse:
    """The GPUs of all machines where a detector runs; two replicas on one machine have the same ones."""
    answers = await ask_each(
        await siblings.replicas("detect"),
        lambda channel: DetectServiceStub(channel).ListGpus,
        detect.ListGpusRequest(minutes=minutes),
        timeout=timeout,
    )
    merged, known = detect.ListGpusResponse(), set[str]()
    for gpu in (gpu for answer in answers for gpu in answer.gpus):
        if not gpu.uuid or gpu.uuid not in known:
            known.add(gpu.uuid)
            merged.gpus.append(gpu)
    if not merged.gpus:
        merged.detail = answers[0].detail
    return merged


async def ingest_status(siblings: Siblings, timeout: float = SECONDS) -> ingest.GetIngestStatusResponse:
    """A replica that does not answer may have files that nobody has announced: it counts as scanning."""
    channels = await siblings.replicas("ingest")
    answers = await ask_each(
        channels,
        lambda channel: IngestServiceStub(channel).GetIngestStatus,
        ingest.GetIngestStatusRequest(),
        timeout=timeout,
    )
    return ingest.GetIngestStatusResponse(
        settling=sum(answer.settling for answer in answers),
        unannounced=sum(answer.unannounced for answer in answers),
        scanning=len(answers) < len(channels) or any(answer.scanning for answer in answers),
        problem=next((answer.problem for answer in answers if answer.problem), ""),
        unreadable_folders=_all(answer.unreadable_folders for answer in answers),
        warnings=_all(answer.warnings for answer in answers),
    )


def _all(lists: Iterable[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(text for texts in lists for text in texts))
