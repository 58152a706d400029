"""One detected media with the watch policy's decisions about its findings. Pure."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from lares.detect.v1.detection_pb2 import FrameDetection
from lares.store.v1.dropped_pb2 import DroppedDetections
from lares.store.v1.events_pb2 import MediaKept
from mesh.boxes import bounding_box, edges
from mesh.identity import detection_id
from store_svc.domain.assembly import AssemblyFrame
from store_svc.domain.watch_policy import Decision, Finding, WatchPolicy
from store_svc.ids import parse_uuid
from store_svc.recording.media_record import DetectionRecord, FrameRecord, MediaRecord
from store_svc.times import stamp

KEPT = Decision.KEPT  # which takes as long to look up as a decision


class DecidedFrame(NamedTuple):
    """One frame with the decisions about its findings.

    `kept` are the rows of the detections, with the `zones` of each; `dropped` are the other findings, with
    the reasons. `urgent` means that one of the detections takes the fast path. `standing` are the ids of the
    detections that show vehicles that are remembered to stand there.
    """

    frame: FrameRecord
    kept: Sequence[DetectionRecord]
    zones: Sequence[tuple[str, ...]]
    dropped: Sequence[tuple[FrameDetection, Decision]]
    urgent: bool
    standing: frozenset[UUID] = frozenset()

    @property
    def joins_an_event(self) -> bool:
        """Whether something counts that is not remembered to stand there."""
        return len(self.kept) > len(self.standing)

    def to_assembly(self, media_id: str) -> AssemblyFrame:
        return AssemblyFrame(media_id, self.frame.index, self.frame.at, len(self.kept))

    def packed(self) -> bytes:
        """Returns the dropped findings as the column `frames.dropped` stores them."""
        packed = DroppedDetections()
        add = packed.detections.add
        for found, decision in self.dropped:
            # As an argument of `add`, the detection would be copied in twice the time.
            add(decision=decision).detection.CopyFrom(found)
        return packed.SerializeToString()

    def add_to(self, message: MediaKept, event_id: UUID | None) -> None:
        """Adds the frame to a `store.kept.v1` record. `event_id` is the event that it joined, if it did."""
        frame = self.frame
        added = message.frames.add(
            index=frame.index,
            captured_at=stamp(frame.at),
            width=frame.width,
            height=frame.height,
            dropped_count=len(self.dropped),
        )
        event = str(event_id or "")
        for row, zones in zip(self.kept, self.zones, strict=True):
            kept = added.detections.add(
                id=str(row.id), label=row.label, score=row.score, event_id=event, zone_ids=zones
            )
            box = kept.bounding_box
            box.x_min, box.y_min, box.x_max, box.y_max = row.box


class DecidedMedia(NamedTuple):
    """A media with its decided frames.

    `policy` is the policy that decided, or None if the writer of the record filtered its detections itself.
    """

    record: MediaRecord
    frames: Sequence[DecidedFrame]
    policy: WatchPolicy | None

    @property
    def kept_count(self) -> int:
        return sum(len(frame.kept) for frame in self.frames)

    @property
    def poster_frame(self) -> int:
        """The index of the frame that shows most: whose detections are the most certain ones together, else
        that with the most movement; of equal ones the first. 0 without frames."""
        if len(self.frames) == 1:
            return self.frames[0].frame.index
        best = max(self.frames, key=_shows, default=None)
        return best.frame.index if best else 0


def apply_policy(record: MediaRecord, policy: WatchPolicy | None) -> DecidedMedia:
    """Decides about all findings of a media.

    Without a policy, everything counts, as the writer of the record filtered its detections itself.
    """
    if policy is None:
        frames = [
            DecidedFrame(frame, frame.filtered, ((),) * len(frame.filtered), (), record.urgent)
            for frame in record.frames
        ]
    else:
        frames = [
            _decide_frame(frame, policy, record.message.media.id, record.message.detector)
            for frame in record.frames
        ]
    return DecidedMedia(record, frames, policy)


def _shows(frame: DecidedFrame) -> tuple[float, float]:
    return sum(kept.score for kept in frame.kept), frame.frame.motion_significance


def _decide_frame(frame: FrameRecord, policy: WatchPolicy, media: str, detector: str) -> DecidedFrame:
    kept: list[DetectionRecord] = []
    zones: list[tuple[str, ...]] = []
    dropped: list[tuple[FrameDetection, Decision]] = []
    urgent, decide = False, policy.decide_without_box
    aspect = frame.width / frame.height if frame.height > 0 else 0.0
    # Most findings are dropped for their label or score: their boxes are not read.
    for found in frame.findings:
        decision = decide(found.label, found.score)
        if decision is KEPT:
            finding = finding_from_message(found)
            decision, zones_of_it = policy.decide(finding, aspect)
            if decision is KEPT:
                kept.append(_detection_row(finding, frame.index, media, detector))
                zones.append(zones_of_it)
                urgent = urgent or policy.is_fast(finding)
                continue
        dropped.append((found, decision))
    return DecidedFrame(frame, kept, zones, dropped, urgent)


def _detection_row(finding: Finding, index: int, media: str, detector: str) -> DetectionRecord:
    # The id depends on the rank in the raw output, so it is the same under every policy.
    id = parse_uuid(detection_id(media, index, finding.rank, detector))
    return DetectionRecord(id, index, finding.label, finding.score, list(finding.box), finding.rank)


def finding_to_message(finding: Finding) -> FrameDetection:
    return FrameDetection(
        rank=finding.rank,
        label=finding.label,
        score=finding.score,
        bounding_box=bounding_box(finding.box),
    )


def finding_from_message(message: FrameDetection) -> Finding:
    return Finding(message.rank, message.label, message.score, edges(message.bounding_box))
