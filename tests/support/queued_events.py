"""Events with their jobs, for tests of the rules that change them."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from store_svc.domain.event import AddedFrame, AddedFrames, StoredAssessment, StoredEvent
from store_svc.domain.job import Job, Request
from store_svc.domain.queued_event import QueuedEvent

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=40)
IDS = [UUID(int=n) for n in range(10)]
FAILURE = UUID(int=61)
REQUEST = Request(UUID(int=71), "another", "v2")
OTHER = Request(UUID(int=72))


def frame(
    n: int, at: int = 0, urgent: bool = False, label: str = "person", of_clip: bool = False
) -> AddedFrame:
    """A frame with the detection `IDS[n]`."""
    return AddedFrame(at, (IDS[n],), frozenset({label}), urgent, True, of_clip=of_clip)


def frames(*added: AddedFrame, zone: str = "UTC") -> AddedFrames:
    return AddedFrames(added, zone, 3)


def opened(*added: AddedFrame) -> QueuedEvent:
    """An event that these frames have opened at NOON, by default `frame(0)`."""
    queued = QueuedEvent(StoredEvent(UUID(int=99), "front", 0, 0, (), NOON))
    queued.add_frames(frames(*(added or [frame(0)])), [], NOON)
    return queued


def closed_and_assessed() -> QueuedEvent:
    """An event that is closed and has assessment 1, so that nothing is due."""
    queued = opened()
    queued.close(NOON)
    queued.apply_assessment(assessment_of(queued))
    return queued


def job_of(queued: QueuedEvent) -> Job:
    assert queued.job is not None
    return queued.job


def lease(queued: QueuedEvent) -> None:
    job_of(queued).lease_id, job_of(queued).leased_until = UUID(int=81), LATER


def is_leased(queued: QueuedEvent) -> bool:
    return (job_of(queued).lease_id, job_of(queued).leased_until) != (None, None)


def assessment_of(queued: QueuedEvent, id: int = 1, **changes: object) -> StoredAssessment:
    """An assessment of the event's evidence as it is now."""
    event = queued.event
    fields = {
        "id": UUID(int=id),
        "severity": 2,
        "body": b"b",
        "evidence_revision": event.evidence_revision,
        "evidence_digest": event.evidence_digest,
    }
    return StoredAssessment(**(fields | changes))  # type: ignore[arg-type]


def answer_of(queued: QueuedEvent, id: int = 2, **changes: object) -> StoredAssessment:
    """An assessment that answers REQUEST."""
    return assessment_of(queued, id, **({"request_id": REQUEST.id} | changes))
