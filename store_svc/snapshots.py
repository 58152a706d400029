"""Stored things as their messages."""

from lares.store.v1.camera_pb2 import Camera as CameraMessage
from lares.store.v1.event_pb2 import Event
from lares.store.v1.events_pb2 import CameraConfigured
from store_svc.domain.camera import StoredCamera
from store_svc.domain.event import StoredEvent
from store_svc.times import stamp


def event_message(event: StoredEvent, camera_name: str) -> Event:
    message = Event(
        id=str(event.id),
        camera_id=event.camera_id,
        camera_name=camera_name,
        status=event.status,  # type: ignore[arg-type]
        revision=event.revision,
        sequence=event.sequence,
        started_at=stamp(event.started_at),
        ended_at=stamp(event.ended_at),
        closed=event.closed,
        labels=sorted(event.labels),
        detection_count=event.detection_count,
        media_count=event.media_count,
    )
    if event.assessment is not None:
        message.assessment.ParseFromString(event.assessment)
    return message


def camera_message(camera: StoredCamera) -> CameraMessage:
    return CameraMessage(
        id=camera.id,
        display_name=camera.display_name,
        time_zone=camera.time_zone,
        enabled=camera.enabled,
        thresholds=dict(camera.thresholds),
        created_at=stamp(camera.created_at),
        updated_at=stamp(camera.updated_at),
    )


def camera_configured(camera: StoredCamera) -> CameraConfigured:
    return CameraConfigured(
        camera=camera_message(camera), deleted=camera.deleted_at is not None, revision=camera.revision
    )
