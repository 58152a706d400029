"""An arrival with what the watch policy makes of it. Pure."""

from dataclasses import dataclass
from uuid import UUID

from lares.detect.v1.detection_pb2 import FrameDetection
from lares.store.v1.dropped_pb2 import DroppedDetection, DroppedDetections
from lares.store.v1.events_pb2 import KeptDetection, KeptFrame
from mesh.boxes import bounding_box, edges
from mesh.identity import detection_id
from store_svc.domain.assembly import AssemblyFrame
from store_svc.domain.watch_policy import Decision, Finding, WatchPolicy
from store_svc.ids import parse_uuid
from store_svc.records import Arrival, ArrivedFrame, DetectionRow
from store_svc.times import stamp


@dataclass(frozen=True, slots=True)
class DecidedFrame:
    """`kept` are the rows of what counts, with the `zones` of each; `dropped` is the rest, with the reasons.
    `urgent`: something of it is for the fast path."""

    frame: ArrivedFrame
    kept: tuple[DetectionRow, ...]
    zones: tuple[tuple[str, ...], ...]
    dropped: tuple[tuple[FrameDetection, Decision], ...]
    urgent: bool

    def to_assembly(self, media_id: str) -> AssemblyFrame:
        """As assembly takes it."""
        return AssemblyFrame(media_id, self.frame.index, self.frame.at, len(self.kept))

    def packed(self) -> bytes:
        """What was dropped, as the column `frames.dropped` holds it."""
        return DroppedDetections(
            detections=[
                DroppedDetection(detection=raw, decision=decision)  # type: ignore[arg-type]
                for raw, decision in self.dropped
            ]
        ).SerializeToString()

    def message(self, event_id: UUID | None) -> KeptFrame:
        """`event_id`: of the event that its detections joined."""
        return KeptFrame(
            index=self.frame.index,
            captured_at=stamp(self.frame.at),
            width=self.frame.width,
            height=self.frame.height,
            detections=[
                KeptDetection(
                    id=str(row[0]),
                    label=row[2],
                    score=row[3],
                    bounding_box=bounding_box(row[4]),
                    event_id=str(event_id),
                    zone_ids=zones,
                )
                for row, zones in zip(self.kept, self.zones, strict=True)
            ],
            dropped_count=len(self.dropped),
        )


@dataclass(frozen=True, slots=True)
class DecidedMedia:
    """`policy` is the one that decided, or None where the writer of the record filtered by itself."""

    arrival: Arrival
    frames: tuple[DecidedFrame, ...]
    policy: WatchPolicy | None

    @property
    def kept_count(self) -> int:
        return sum(len(frame.kept) for frame in self.frames)


def apply_policy(arrival: Arrival, policy: WatchPolicy | None) -> DecidedMedia:
    """`policy` None: the writer of the record filtered by itself, so all that is in it counts."""
    if policy is None:
        frames = tuple(
            DecidedFrame(frame, frame.filtered, ((),) * len(frame.filtered), (), arrival.urgent)
            for frame in arrival.frames
        )
    else:
        media = arrival.message.media.id
        detector = arrival.message.detector
        frames = tuple(_decided(frame, policy, media, detector) for frame in arrival.frames)
    return DecidedMedia(arrival, frames, policy)


def _decided(frame: ArrivedFrame, policy: WatchPolicy, media: str, detector: str) -> DecidedFrame:
    kept: list[DetectionRow] = []
    zones: list[tuple[str, ...]] = []
    dropped: list[tuple[FrameDetection, Decision]] = []
    urgent = False
    for finding, raw in zip(frame.findings, frame.raw, strict=True):
        ruling = policy.decide(finding)
        if ruling.decision is Decision.KEPT:
            kept.append(_row(finding, frame.index, media, detector))
            zones.append(ruling.zones)
            urgent = urgent or policy.is_fast(finding)
        else:
            dropped.append((raw, ruling.decision))
    return DecidedFrame(frame, tuple(kept), tuple(zones), tuple(dropped), urgent)


def _row(finding: Finding, index: int, media: str, detector: str) -> DetectionRow:
    """Named by its rank in the raw output, so that the policy changes no id."""
    id = parse_uuid(detection_id(media, index, finding.rank, detector))
    return id, index, finding.label, finding.score, list(finding.box), finding.rank


def finding_message(finding: Finding) -> FrameDetection:
    return FrameDetection(
        rank=finding.rank,
        label=finding.label,
        score=finding.score,
        bounding_box=bounding_box(finding.box),
    )


def finding_of(message: FrameDetection) -> Finding:
    """The way back."""
    return Finding(message.rank, message.label, message.score, edges(message.bounding_box))
