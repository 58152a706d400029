"""lares.store.v1.CameraService."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from lares.store.v1 import camera_service_pb2 as pb
from lares.store.v1.camera_pb2 import Camera
from lares.store.v1.camera_service_pb2_grpc import CameraServiceServicer
from mesh.labels import canonical, listed, unique_by_canonical
from mesh.problems import Invalid
from mesh.scene.messages import zone_message
from store_svc.camera_repository import CameraRepository
from store_svc.database import Database
from store_svc.domain.camera import SETTINGS, StoredCamera
from store_svc.domain.camera_scene import MOST_ITEMS, camera_places
from store_svc.domain.watch_policy import EVERY_OTHER
from store_svc.domain.zone_suggestions import LABELS, suggest_zones
from store_svc.messages import camera_message
from store_svc.policy_preview import PolicyPreviews
from store_svc.queries import cameras
from store_svc.queries.seen_objects import recent_objects
from store_svc.scene_warnings import SceneWarnings

DEFAULT_PREVIEW_FRAMES = 20
MOST_SUGGESTION_DETECTIONS = 5000
ALL_FIELDS = "*"
# The settings that are maps by label.
BY_LABEL = ("thresholds", "size_filters")


class CameraServicer(CameraServiceServicer):
    def __init__(
        self,
        database: Database,
        stored: CameraRepository,
        previews: PolicyPreviews,
        labels: Iterable[str],
        clock: Callable[[], datetime],
    ) -> None:
        """`labels` are the watched classes, by any of their names. Only they can have thresholds and size
        filters."""
        self._database = database
        self._stored = stored
        self._previews = previews
        self._clock = clock
        self._labels = frozenset(map(canonical, labels)) | {EVERY_OTHER}
        self._warnings = SceneWarnings(database)

    async def CreateCamera(self, request: pb.CreateCameraRequest, context: object) -> pb.CreateCameraResponse:
        settings = self._with_labels(_settings_of(request.camera))
        stored = await self._stored.create(request.camera.id, **settings)
        return pb.CreateCameraResponse(camera=await self._warned(stored))

    async def GetCamera(self, request: pb.GetCameraRequest, context: object) -> pb.GetCameraResponse:
        stored = await cameras.stored_camera(self._database, request.camera_id)
        return pb.GetCameraResponse(camera=await self._warned(stored))

    async def BatchGetCameras(
        self, request: pb.BatchGetCamerasRequest, context: object
    ) -> pb.BatchGetCamerasResponse:
        found = await cameras.batch_cameras(self._database, request.camera_ids)
        return pb.BatchGetCamerasResponse(cameras=found)

    async def ListCameras(self, request: pb.ListCamerasRequest, context: object) -> pb.ListCamerasResponse:
        return await cameras.list_cameras(self._database, request.page_size or 50, request.page_token)

    async def UpdateCamera(self, request: pb.UpdateCameraRequest, context: object) -> pb.UpdateCameraResponse:
        changes = self._with_labels(_changes_of(request.camera, request.update_mask))
        stored = await self._stored.update(request.camera.id, changes)
        return pb.UpdateCameraResponse(camera=await self._warned(stored))

    async def GetWatchPolicy(
        self, request: pb.GetWatchPolicyRequest, context: object
    ) -> pb.GetWatchPolicyResponse:
        id = request.camera_id
        return await self._previews.policy(await cameras.stored_camera(self._database, id) if id else None)

    async def PreviewPolicy(
        self, request: pb.PreviewPolicyRequest, context: object
    ) -> pb.PreviewPolicyResponse:
        current = await cameras.stored_camera(self._database, request.camera.id)
        changes = self._with_labels(_proposed_changes(request))
        proposed = current.with_changes(self._clock(), **changes)
        return await self._previews.preview(current, proposed, request.max_frames or DEFAULT_PREVIEW_FRAMES)

    async def SuggestZones(self, request: pb.SuggestZonesRequest, context: object) -> pb.SuggestZonesResponse:
        camera = await cameras.stored_camera(self._database, request.camera_id)
        seen = await recent_objects(self._database, camera.id, LABELS, MOST_SUGGESTION_DETECTIONS)
        places = camera_places(camera.scene)
        # It may take a tenth of a second.
        found = await asyncio.to_thread(suggest_zones, seen, places.zones, places.ground)
        return pb.SuggestZonesResponse(
            suggestions=[
                pb.ZoneSuggestion(
                    zone=zone_message(one.zone),
                    why=one.why,
                    people=one.people,
                    vehicles=one.vehicles,
                    events=one.events,
                )
                for one in found[: MOST_ITEMS - len(places.zones)]
            ],
            detection_count=sum(len(objects) for _, objects in seen),
        )

    async def DeleteCamera(self, request: pb.DeleteCameraRequest, context: object) -> pb.DeleteCameraResponse:
        await self._stored.delete(request.camera_id)
        return pb.DeleteCameraResponse()

    async def _warned(self, stored: StoredCamera) -> Camera:
        message = camera_message(stored)
        message.warnings.extend(await self._warnings.of(stored))
        return message

    def _with_labels(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the changes with thresholds and size filters by canonical label. Raises Invalid: BAD_LABEL
        if a label is not watched, DUPLICATE_LABEL if two names mean the same label."""
        by_label = {name: changes[name] for name in BY_LABEL if name in changes}
        for name, values in by_label.items():
            if unknown := sorted(label for label in values if canonical(label) not in self._labels):
                sentence = f"{unknown[0]!r} is not a watched class; these are: {listed(sorted(self._labels))}"
                raise Invalid(sentence, "BAD_LABEL", label=unknown[0])
            try:
                by_label[name] = unique_by_canonical(sorted(values.items()))
            except ValueError as error:
                raise Invalid(f"{name}: {error}", "DUPLICATE_LABEL") from None
        return {**changes, **by_label}


def _proposed_changes(request: pb.PreviewPolicyRequest) -> Mapping[str, Any]:
    """Returns the proposed changes as for UpdateCamera, or none if the request sets and names no field."""
    camera, mask = request.camera, request.update_mask
    if not mask.paths and not any(field.name in SETTINGS for field, _ in camera.ListFields()):
        return {}
    return _changes_of(camera, mask)


def _settings_of(camera: Camera) -> dict[str, Any]:
    """Returns all settings for CreateCamera. Fields that the message does not set have their defaults."""
    return {
        "display_name": camera.display_name if camera.HasField("display_name") else camera.id,
        "time_zone": camera.time_zone,
        "enabled": camera.enabled if camera.HasField("enabled") else True,
        "thresholds": dict(camera.thresholds),
        "zones": camera.zones,
        "lines": camera.lines,
        "masks": camera.masks,
        "size_filters": dict(camera.size_filters),
        "ground": camera.ground,
    }


def _changes_of(camera: Camera, mask: FieldMask) -> Mapping[str, Any]:
    """Returns the settings to change, by name.

    Without a mask these are the fields that the message sets, except maps, so that a client that does not
    know a setting cannot erase it. Raises Invalid: BAD_FIELD_MASK if a path is not a setting, or if `*` is
    not the only path; NOTHING_TO_UPDATE if no field is set.
    """
    settings = _settings_of(camera)
    paths = set(mask.paths)
    if paths == {ALL_FIELDS}:
        return settings
    if unknown := sorted(paths.difference(SETTINGS)):
        raise Invalid(f"the mask names fields that cannot be changed: {', '.join(unknown)}", "BAD_FIELD_MASK")
    if not paths:
        set_fields = {field.name for field, _ in camera.ListFields() if field.has_presence}
        paths = set_fields.intersection(SETTINGS)
    if not paths:
        raise Invalid("no field is set; maps change only if update_mask names them", "NOTHING_TO_UPDATE")
    return {name: settings[name] for name in SETTINGS if name in paths}
