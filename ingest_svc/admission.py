"""Decides which camera a file or an upload belongs to, and whether that camera accepts photos."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ingest_svc.facts import SourceCamera
from ingest_svc.fingerprint import Fingerprint
from ingest_svc.rejection import OUTSIDE_LINK, RejectionCause, RejectReason
from ingest_svc.watching.camera_folders import CameraFolders
from lares.store.v1.events_pb2 import CameraConfigured
from mesh.problems import Conflict
from mesh.security import Caller


class CameraTable(Protocol):
    """The part of mesh.cameras.CameraConfigurations that ingest_svc uses."""

    def get(self, camera_id: str) -> CameraConfigured | None: ...

    def all(self) -> list[CameraConfigured]: ...

    def subscribe(self) -> AsyncIterator[CameraConfigured]: ...


class Admission:
    """`default_zone` applies to cameras without a time zone of their own, `clock_tolerance` to all.
    `refusal` returns why a link in the cameras folder is not followed."""

    def __init__(
        self,
        folders: CameraFolders,
        cameras: CameraTable,
        default_zone: str,
        clock_tolerance: timedelta | None = None,
        refusal: Callable[[str], RejectionCause] = lambda _: OUTSIDE_LINK,
    ) -> None:
        self._folders, self._cameras, self._default_zone = folders, cameras, default_zone
        self._clock_tolerance, self._refusal = clock_tolerance, refusal
        # Deleted or disabled cameras whose folders contain files that wait.
        self.skipped: set[str] = set()

    def of_file(self, file: Fingerprint) -> SourceCamera | RejectionCause | None:
        """None if the file is to be skipped for now: its folder was rejected, or its camera is deleted or
        disabled."""
        folder, slash, _ = file.path.partition("/")
        if not slash:
            not_in_a_folder = RejectionCause(RejectReason.CAMERA_NAME, "it is not in a camera's folder")
            return self._refusal(file.path) if file.outside else not_in_a_folder
        camera_id = self._folders.camera(folder)
        if camera_id is None:
            return None
        if not self.active(camera_id):
            self.skipped.add(camera_id)
            return None
        return self._camera(camera_id, folder)

    def of_upload(self, camera_id: str, caller: Caller) -> SourceCamera:
        """A camera that does not exist yet is created by its first media.

        Raises Denied OTHER_CAMERA if the caller has the key of another camera; Conflict CAMERA_DELETED or
        CAMERA_DISABLED.
        """
        caller.require_camera(camera_id)
        known = self._cameras.get(camera_id)
        if known is not None and known.deleted:
            raise Conflict(f"the camera {camera_id} was deleted", "CAMERA_DELETED", camera_id=camera_id)
        if known is not None and not known.camera.enabled:
            raise Conflict(f"the camera {camera_id} is disabled", "CAMERA_DISABLED", camera_id=camera_id)
        return self._camera(camera_id, self._folders.folder(camera_id) or camera_id)

    def active(self, camera_id: str) -> bool:
        known = self._cameras.get(camera_id)
        return known is None or (known.camera.enabled and not known.deleted)

    def _camera(self, camera_id: str, name: str) -> SourceCamera:
        known = self._cameras.get(camera_id)
        zone = known.camera.time_zone if known is not None else ""
        try:
            time_zone = ZoneInfo(zone or self._default_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            time_zone = ZoneInfo(self._default_zone)
        return SourceCamera(camera_id, name, time_zone, self._clock_tolerance)
