"""The store's own services on PostgreSQL, holding what a FakeStore holds: for suites that compare the two."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast
from uuid import UUID, uuid4

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Table

from lares.detect.v1.detection_pb2 import Detection
from lares.reason.v1.assessment_pb2 import Assessment
from lares.store.internal.v1.key_check_service_pb2_grpc import add_KeyCheckServiceServicer_to_server
from lares.store.v1.camera_pb2 import Camera
from lares.store.v1.camera_service_pb2 import POLICY_DECISION_KEPT, FramePreview
from lares.store.v1.camera_service_pb2_grpc import add_CameraServiceServicer_to_server
from lares.store.v1.detection_service_pb2 import StoredDetection
from lares.store.v1.detection_service_pb2_grpc import add_DetectionServiceServicer_to_server
from lares.store.v1.dropped_pb2 import DroppedDetections
from lares.store.v1.event_pb2 import Event
from lares.store.v1.event_service_pb2 import EventFailure
from lares.store.v1.event_service_pb2_grpc import add_EventServiceServicer_to_server
from lares.store.v1.events_pb2 import EventChanged
from lares.store.v1.house_service_pb2_grpc import add_HouseServiceServicer_to_server
from lares.store.v1.media_service_pb2 import Rejection, StoredFrame, StoredMedia
from lares.store.v1.media_service_pb2_grpc import add_MediaServiceServicer_to_server
from lares.store.v1.rendition_service_pb2_grpc import add_RenditionServiceServicer_to_server
from lares.store.v1.stored_clip_pb2 import StoredClip
from mesh.boxes import edges, edges_of
from mesh.feed import Feed
from mesh.rpc import GrpcServer
from mesh.security import digest
from store_svc.api.cameras import CameraServicer
from store_svc.api.detections import DetectionServicer
from store_svc.api.events import EventServicer, TopicLags
from store_svc.api.house import HouseServicer
from store_svc.api.key_checks import KeyCheckServicer
from store_svc.api.media import MediaServicer
from store_svc.api.renditions import RenditionServicer
from store_svc.api_keys import ApiKeys
from store_svc.camera_repository import CameraRepository
from store_svc.commit_signals import CommitSignals
from store_svc.database import Connection, Database, tables
from store_svc.detectors import Detectors
from store_svc.domain.camera_scene import SCENE_SETTINGS, changed_scene
from store_svc.domain.evidence import digest_v1
from store_svc.domain.watch_policy import WatchSettings
from store_svc.house.amendments import EvidenceAmendments
from store_svc.house.contexts import HouseContexts
from store_svc.house.modes import Modes
from store_svc.house.people import People
from store_svc.house.presence import PresenceReports
from store_svc.house.visits import ExpectedVisits
from store_svc.policy_preview import PolicyPreviews
from store_svc.queries.evidence import EvidenceReader
from store_svc.queries.feed import list_changes
from store_svc.reassessments import Reassessments
from store_svc.renditions.render_inputs import RenderInputs
from store_svc.renditions.rendition_requests import RenditionRequests
from store_svc.times import micros, moment
from store_svc.track_identities import TrackIdentities
from tests.support import store_rows
from tests.support.store_rows import Row, write
from tests.unit.gateway.fake_services import WATCHED
from tests.unit.gateway.fake_store import NOON, FakeStore


def add_real_services(database: Database, server: GrpcServer) -> None:
    """Serves the public services of the store and its check of keys. It is always noon, and the topics are
    read to their ends."""

    async def no_lag() -> int:
        return 0

    signals, watch = CommitSignals(), WatchSettings(WATCHED)
    previews = PolicyPreviews(database, watch, Detectors(database, watch))
    cameras = CameraRepository(database, signals, lambda: NOON)
    reassessments = Reassessments(database, signals.due, lambda: NOON)
    evidence = EvidenceReader()
    identities = TrackIdentities(database, evidence, signals, lambda: NOON)
    inputs = RenderInputs(timedelta(seconds=5), timedelta(seconds=5), timedelta(hours=1))
    # Nothing is made here, so no blob is looked for.
    renditions = RenditionRequests(database, inputs, cast(Any, None), signals, lambda: NOON)
    delay, span = timedelta(seconds=120), timedelta(seconds=90)
    amendments = EvidenceAmendments(HouseContexts(delay), delay, span, signals, lambda: NOON)
    feed, lags = Feed(partial(list_changes, database)), TopicLags(no_lag, no_lag, no_lag, no_lag)
    for register, servicer, name in (
        (
            add_CameraServiceServicer_to_server,
            CameraServicer(database, cameras, previews, WATCHED, lambda: NOON),
            "v1.CameraService",
        ),
        (
            add_EventServiceServicer_to_server,
            EventServicer(database, feed, reassessments, evidence, identities, lags, lambda: NOON),
            "v1.EventService",
        ),
        (
            add_HouseServiceServicer_to_server,
            HouseServicer(
                database,
                Modes(database, "UTC", delay, amendments, lambda: NOON),
                People(database, lambda: NOON),
                PresenceReports(database, amendments, lambda: NOON),
                ExpectedVisits(database, "UTC", lambda: NOON),
            ),
            "v1.HouseService",
        ),
        (add_MediaServiceServicer_to_server, MediaServicer(database), "v1.MediaService"),
        (add_DetectionServiceServicer_to_server, DetectionServicer(database), "v1.DetectionService"),
        (add_RenditionServiceServicer_to_server, RenditionServicer(renditions), "v1.RenditionService"),
        (
            add_KeyCheckServiceServicer_to_server,
            KeyCheckServicer(ApiKeys(database, lambda: NOON)),
            "internal.v1.KeyCheckService",
        ),
    ):
        server.add(register, servicer, f"lares.store.{name}")  # type: ignore[arg-type]


async def copy_store(fake: FakeStore, database: Database) -> None:
    """Writes everything that the fake holds into an empty database, and the frames of its scripted preview as
    if they had been recorded."""
    deleted = fake.deleted_cameras
    await _write(database, tables.cameras, (_camera(c, c.id in deleted) for c in fake.cameras.values()))
    await _write(database, tables.media, map(_media, fake.media))
    kept = [row for frame in fake.preview.frames for row in _kept(frame)]
    await _write(database, tables.detections, [*map(_detection, fake.detections), *kept])
    await _write(database, tables.frames, map(_frame, fake.preview.frames))
    await _write(
        database,
        tables.frames,
        (_clip_frame(id, frame) for id, frames in fake.frames.items() for frame in frames),
    )
    detectors = {stored.detector for stored in fake.media}
    await _write(database, tables.detectors, ({"id": id} | DETECTOR for id in sorted(detectors)))
    failures = {id: _failure(failure) for id, failure in fake.failures.items()}
    await _write(database, tables.assessment_failures, failures.values())
    await _write(
        database,
        tables.events,
        (
            _event(event, failures[event.id]["id"] if event.id in failures else None)
            | {"evidence_digest": _evidence_digest(fake, event)}
            for event in fake.events
        ),
    )
    for history in fake.assessments.values():
        # One by one and oldest first, because they are listed in the order in which they were recorded.
        for assessment in reversed(history):
            await _write(database, tables.assessments, [_assessment(assessment)])
    raw_answers = [(UUID(id), text.encode()) for id, text in fake.raw_answers.items()]
    await _write(
        database,
        tables.raw_answers,
        ({"assessment_id": id, "body": body} for id, body in raw_answers),
    )
    await _write(database, tables.rejections, map(_rejection, fake.rejections))
    await _write(database, tables.feed, map(_change, fake.changes[fake.expired_changes :]))
    await _write(
        database,
        tables.api_keys,
        (
            {
                "id": UUID(id),
                "name": "a test",
                "sha256": digest(secret),
                "created_at": NOON,
                "revoked_at": None,
                "permissions": list(fake.permissions[id]) if id in fake.permissions else None,
            }
            for secret, id in fake.secrets.items()
        ),
    )
    head = len(fake.changes)

    async def set_head(connection: Connection) -> None:
        await connection.execute("UPDATE feed_head SET sequence = $1", head)
        await connection.execute("UPDATE feed_published SET sequence = $1", head)

    await database.transaction(set_head)


DETECTOR = {"labels": list(WATCHED), "threshold": 0.5, "fast_threshold": 0.6, "reported_at": NOON}


async def _write(database: Database, table: Table, rows: Iterable[Row]) -> None:
    if listed := list(rows):
        await write(database, table, *listed)


def _camera(camera: Camera, deleted: bool) -> Row:
    return store_rows.camera_row(
        camera.id,
        display_name=camera.display_name,
        time_zone=camera.time_zone,
        enabled=camera.enabled,
        thresholds=dict(camera.thresholds),
        created_at=_time(camera.created_at),
        updated_at=_time(camera.updated_at),
        deleted_at=NOON - timedelta(hours=1) if deleted else None,
        scene=changed_scene(b"", {name: getattr(camera, name) for name in SCENE_SETTINGS}),
    )


def _media(stored: StoredMedia) -> Row:
    media = stored.media
    return store_rows.media_row(
        id=UUID(media.id),
        camera_id=media.camera_id,
        camera_name=media.camera_name,
        sha256=media.sha256,
        size_bytes=media.size_bytes,
        type=media.type,
        width=media.width,
        height=media.height,
        captured_at=_time(media.captured_at),
        captured_at_source=media.captured_at_source,
        ingested_at=_time(media.ingested_at),
        detected_at=_time(stored.detected_at),
        detector=stored.detector,
        detection_count=stored.detection_count,
        policy_digest=stored.policy_digest or None,
        clip=_clip(stored),
        poster_frame=stored.poster_frame,
    )


def _clip(stored: StoredMedia) -> bytes | None:
    if not stored.media.HasField("clip"):
        return None
    return StoredClip(clip=stored.media.clip, frame_choice=stored.frame_choice).SerializeToString()


def _detection(stored: StoredDetection) -> Row:
    detection: Detection = stored.detection
    return store_rows.detection_row(
        id=UUID(detection.id),
        media_id=UUID(stored.media_id),
        frame=detection.frame,
        event_id=UUID(stored.event_id or str(uuid4())),
        camera_id=stored.camera_id,
        label=detection.label,
        score=detection.score,
        box=list(edges_of(detection)),
        captured_at=_time(stored.captured_at),
        rank=None,
        zones=list(stored.zone_ids),
    )


def _kept(frame: FramePreview) -> Iterable[Row]:
    """The detections of a previewed frame that were kept when it was recorded."""
    for preview in frame.detections:
        if preview.recorded == POLICY_DECISION_KEPT:
            yield store_rows.detection_row(
                media_id=UUID(frame.media_id),
                frame=frame.index,
                label=preview.detection.label,
                score=preview.detection.score,
                box=list(edges(preview.detection.bounding_box)),
                captured_at=_time(frame.captured_at),
                rank=preview.detection.rank,
                zones=[],
            )


def _frame(frame: FramePreview) -> Row:
    dropped = DroppedDetections()
    for preview in frame.detections:
        if preview.recorded != POLICY_DECISION_KEPT:
            dropped.detections.add(detection=preview.detection, decision=preview.recorded)
    return {
        "media_id": UUID(frame.media_id),
        "index": frame.index,
        "captured_at": _time(frame.captured_at),
        "width": 640,
        "height": 480,
        "motion_significance": 0.0,
        "dropped": dropped.SerializeToString(),
    }


def _clip_frame(media_id: str, frame: StoredFrame) -> Row:
    return {
        "media_id": UUID(media_id),
        "index": frame.index,
        "captured_at": _time(frame.captured_at),
        "width": frame.width,
        "height": frame.height,
        "motion_significance": frame.motion_significance,
        "dropped": b"",
    }


def _event(event: Event, failure_id: UUID | None) -> Row:
    assessed = event.HasField("assessment")
    return store_rows.event_row(
        id=UUID(event.id),
        camera_id=event.camera_id,
        status=event.status,
        revision=event.revision,
        sequence=event.sequence,
        started_at=_time(event.started_at),
        ended_at=_time(event.ended_at),
        closed=event.closed,
        labels=list(event.labels),
        zones=list(event.zone_ids),
        detection_count=event.detection_count,
        media_count=event.media_count,
        assessment_id=UUID(event.assessment.id) if assessed else None,
        severity=event.assessment.severity if assessed else None,
        failure_id=failure_id,
    )


def _evidence_digest(fake: FakeStore, event: Event) -> str:
    ids = [UUID(stored.detection.id) for stored in fake.detections if stored.event_id == event.id]
    return digest_v1(ids, (), "UTC")


def _assessment(assessment: Assessment) -> Row:
    row = store_rows.assessment_row(UUID(assessment.id), UUID(assessment.event_id), assessment.severity)
    return row | {"score": assessment.score, "body": assessment.SerializeToString()}


def _failure(failure: EventFailure) -> Row:
    request_id = failure.given_up_request_id
    return store_rows.failure_row(
        UUID(failure.event_id),
        reason=failure.reason,
        detail=failure.detail,
        failed_at=_time(failure.failed_at),
        given_up_request_id=UUID(request_id) if request_id else None,
    )


def _rejection(rejection: Rejection) -> Row:
    return store_rows.rejection_row(
        id=UUID(rejection.id),
        camera_id=rejection.camera_id,
        path=rejection.path,
        reason=rejection.reason,
        detail=rejection.detail,
        rejected_at=_time(rejection.rejected_at),
        media_id=UUID(rejection.media_id) if rejection.media_id else None,
    )


def _change(change: EventChanged) -> Row:
    row = store_rows.feed_row(change.sequence, camera_id=change.event.camera_id, deleted=change.deleted)
    return row | {"event_id": UUID(change.event.id), "body": change.SerializeToString()}


def _time(stamp: Timestamp) -> datetime:
    return moment(micros(stamp))
