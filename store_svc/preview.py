"""What the watch policy would keep of recent frames with another configuration of their camera."""

from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter

import asyncpg

from lares.store.v1.camera_service_pb2 import (
    DetectionPreview,
    FramePreview,
    GetWatchPolicyResponse,
    PreviewPolicyResponse,
)
from lares.store.v1.dropped_pb2 import DroppedDetections
from store_svc.database import Database
from store_svc.decided_media import finding_from_message, finding_to_message
from store_svc.detectors import Detectors, KnownDetector, detectors_by_id, latest_detector
from store_svc.domain.camera import StoredCamera
from store_svc.domain.watch_policy import CameraWatch, Decision, Finding, WatchPolicy, WatchSettings
from store_svc.times import stamp

_FRAMES = """
SELECT f.*, m.detector, m.policy_digest FROM media m JOIN frames f ON f.media_id = m.id
WHERE m.camera_id = $1 ORDER BY m.captured_at DESC, m.id DESC, f.index DESC LIMIT $2
"""
_KEPT = """
SELECT media_id, frame, rank, label, score, box FROM detections
WHERE media_id = ANY($1::uuid[]) ORDER BY media_id, frame
"""

# A finding, and what was decided about it when it was recorded.
Recorded = tuple[Finding, Decision]


class Previews:
    """Decides with the code that records, over what it has recorded."""

    def __init__(self, database: Database, settings: WatchSettings, detectors: Detectors) -> None:
        self._database = database
        self._settings = settings
        self._detectors = detectors

    async def policy(self, camera: StoredCamera | None) -> GetWatchPolicyResponse:
        """What decides about the next record of `camera`, or of one without settings. Empty before a detector
        has reported for the first time, for its thresholds are not known yet."""
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
        self, current: StoredCamera, proposed: StoredCamera, most: int
    ) -> PreviewPolicyResponse:
        """Of the newest `most` frames whose raw output was recorded, newest first."""
        async with (
            self._database.session() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            rows = await connection.fetch(_FRAMES, current.id, most)
            kept = await connection.fetch(_KEPT, [row["media_id"] for row in rows])
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
        watch = CameraWatch(camera.thresholds) if camera else CameraWatch()
        return WatchPolicy.of(self._settings, watch, detector.thresholds)


def _frame(row: "asyncpg.Record", kept: Iterable[Recorded], policy: WatchPolicy) -> FramePreview:
    recorded = sorted([*kept, *_dropped(row["dropped"])], key=lambda one: one[0].rank)
    return FramePreview(
        media_id=str(row["media_id"]),
        index=row["index"],
        captured_at=stamp(row["captured_at"]),
        detections=[
            DetectionPreview(
                detection=finding_to_message(finding),
                recorded=decision,  # type: ignore[arg-type]
                proposed=policy.decide(finding).decision,  # type: ignore[arg-type]
            )
            for finding, decision in recorded
        ],
    )


def _dropped(packed: bytes) -> list[Recorded]:
    return [
        (finding_from_message(dropped.detection), Decision(dropped.decision))
        for dropped in DroppedDetections.FromString(packed).detections
    ]


def _kept(row: "asyncpg.Record") -> Recorded:
    x_min, y_min, x_max, y_max = row["box"]
    finding = Finding(row["rank"], row["label"], row["score"], (x_min, y_min, x_max, y_max))
    return finding, Decision.KEPT
