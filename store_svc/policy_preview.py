"""Which findings of recent frames the watch policy would keep with another configuration of the camera."""

from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter

from sqlalchemy import Integer, select

from lares.store.v1.camera_service_pb2 import (
    DetectionPreview,
    FramePreview,
    GetWatchPolicyResponse,
    PreviewPolicyResponse,
)
from lares.store.v1.dropped_pb2 import DroppedDetections
from store_svc.database import Database
from store_svc.database.statement import Row, Statement, equals, one_of, parameter
from store_svc.database.tables import detections, frames, media
from store_svc.detectors import Detectors, KnownDetector, detectors_by_id, latest_detector
from store_svc.domain.camera import StoredCamera
from store_svc.domain.camera_scene import camera_watch
from store_svc.domain.watch_policy import CameraWatch, Decision, Finding, WatchPolicy, WatchSettings
from store_svc.recording.decided_media import (
    finding_from_message,
    finding_to_message,
)
from store_svc.times import stamp

_FRAMES = Statement(
    select(frames, media.c.detector, media.c.policy_digest)
    .join_from(media, frames, frames.c.media_id == media.c.id)
    .where(equals(media.c.camera_id, "camera_id"))
    .order_by(media.c.captured_at.desc(), media.c.id.desc(), frames.c.index.desc())
    .limit(parameter("limit", Integer))
)
_KEPT = Statement(
    select(
        detections.c.media_id,
        detections.c.frame,
        detections.c.rank,
        detections.c.label,
        detections.c.score,
        detections.c.box,
    )
    .where(one_of(detections.c.media_id, "media_ids"))
    .order_by(detections.c.media_id, detections.c.frame)
)

# A finding, and what was decided about it when it was recorded.
RecordedFinding = tuple[Finding, Decision]


class PolicyPreviews:
    """Applies the policy to recorded findings, with the same code that records them."""

    def __init__(self, database: Database, settings: WatchSettings, detectors: Detectors) -> None:
        self._database = database
        self._settings = settings
        self._detectors = detectors

    async def policy(self, camera: StoredCamera | None) -> GetWatchPolicyResponse:
        """The policy for the next record of `camera`, or of a camera without settings. Empty until a detector
        has reported for the first time, because its thresholds are not known yet."""
        detector = await self._detectors.latest()
        if detector is None:
            return GetWatchPolicyResponse()
        policy = self._policy(camera, detector)
        return GetWatchPolicyResponse(
            detector=detector.id,
            thresholds=policy.thresholds,
            fast_labels=sorted(policy.fast_labels),
            fast_threshold=policy.fast_threshold,
            policy_digest=policy.digest,
            problem=self._detectors.problem(detector),
        )

    async def preview(
        self, current: StoredCamera, proposed: StoredCamera, max_frames: int
    ) -> PreviewPolicyResponse:
        """Compares both over the newest `max_frames` frames whose raw output was recorded, newest first."""
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            rows = await _FRAMES.fetch(connection, camera_id=current.id, limit=max_frames)
            kept = await _KEPT.fetch(connection, media_ids=[row["media_id"] for row in rows])
            detectors = await detectors_by_id(connection, [row["detector"] for row in rows])
            latest = await latest_detector(connection)
        found = {
            place: [_kept(row) for row in group]
            for place, group in groupby(kept, itemgetter("media_id", "frame"))
        }
        response = PreviewPolicyResponse(
            frames=[
                _frame(
                    row,
                    found.get((row["media_id"], row["index"]), []),
                    self._policy(proposed, detectors[row["detector"]]),
                )
                for row in rows
            ]
        )
        if rows:
            response.current_policy_digest = rows[0]["policy_digest"]
            response.proposed_policy_digest = self._policy(proposed, detectors[rows[0]["detector"]]).digest
        elif latest:
            response.current_policy_digest = self._policy(current, latest).digest
            response.proposed_policy_digest = self._policy(proposed, latest).digest
        return response

    def _policy(self, camera: StoredCamera | None, detector: KnownDetector) -> WatchPolicy:
        watch = camera_watch(camera.thresholds, camera.scene) if camera else CameraWatch()
        return WatchPolicy.of(self._settings, watch, detector.thresholds)


def _frame(row: Row, kept: Iterable[RecordedFinding], policy: WatchPolicy) -> FramePreview:
    recorded = sorted([*kept, *_dropped(row["dropped"])], key=lambda one: one[0].rank)
    aspect = row["width"] / row["height"] if row["height"] > 0 else 0.0
    return FramePreview(
        media_id=str(row["media_id"]),
        index=row["index"],
        captured_at=stamp(row["captured_at"]),
        detections=[
            DetectionPreview(
                detection=finding_to_message(finding),
                recorded=decision,  # type: ignore[arg-type]
                proposed=proposed.decision,  # type: ignore[arg-type]
                zone_ids=proposed.zones,
            )
            for finding, decision in recorded
            for proposed in (policy.decide(finding, aspect),)
        ],
    )


def _dropped(packed: bytes) -> list[RecordedFinding]:
    return [
        (finding_from_message(dropped.detection), Decision(dropped.decision))
        for dropped in DroppedDetections.FromString(packed).detections
    ]


def _kept(row: Row) -> RecordedFinding:
    x_min, y_min, x_max, y_max = row["box"]
    finding = Finding(row["rank"], row["label"], row["score"], (x_min, y_min, x_max, y_max))
    return finding, Decision.KEPT
