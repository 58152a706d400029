"""Whose photo a file is, and whether it may come in."""

from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ingest_svc.fingerprint import Fingerprint
from ingest_svc.folders import Folders
from ingest_svc.photo import Camera
from ingest_svc.refusal import LINK, Reason, Refusal
from lares.store.v1.events_pb2 import CameraConfigured
from mesh.problems import Conflict


class CameraTable(Protocol):
    """The part of mesh.cameras.CameraConfigurations that is needed here."""

    def get(self, camera_id: str) -> CameraConfigured | None: ...


class Admission:
    """`zone` is for cameras that have none of their own."""

    def __init__(self, folders: Folders, cameras: CameraTable, zone: str) -> None:
        self._folders, self._cameras, self._zone = folders, cameras, zone
        # Deleted or disabled cameras that have files waiting.
        self.left_alone: set[str] = set()

    def of_file(self, file: Fingerprint) -> Camera | Refusal | None:
        """None where the file is to be left alone: its folder was refused, or its camera is deleted or
        disabled."""
        folder, slash, _ = file.path.partition("/")
        if not slash:
            return LINK if file.outside else Refusal(Reason.CAMERA_NAME, "it lies in no camera's folder")
        camera_id = self._folders.camera(folder)
        if camera_id is None:
            return None
        if not self.active(camera_id):
            self.left_alone.add(camera_id)
            return None
        return self._camera(camera_id, folder)

    def of_upload(self, camera_id: str) -> Camera:
        """A camera that nobody knows is made by its first photo. Raises Conflict."""
        known = self._cameras.get(camera_id)
        if known is not None and known.deleted:
            raise Conflict(f"the camera {camera_id} was deleted", "CAMERA_DELETED", camera_id=camera_id)
        if known is not None and not known.camera.enabled:
            raise Conflict(f"the camera {camera_id} is disabled", "CAMERA_DISABLED", camera_id=camera_id)
        return self._camera(camera_id, self._folders.folder(camera_id) or camera_id)

    def active(self, camera_id: str) -> bool:
        known = self._cameras.get(camera_id)
        return known is None or (known.camera.enabled and not known.deleted)

    def _camera(self, camera_id: str, name: str) -> Camera:
        known = self._cameras.get(camera_id)
        zone = known.camera.time_zone if known is not None else ""
        try:
            return Camera(camera_id, name, ZoneInfo(zone or self._zone))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return Camera(camera_id, name, ZoneInfo(self._zone))
