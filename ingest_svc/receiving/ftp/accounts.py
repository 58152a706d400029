"""The accounts of the FTP receiver: the user is the id of a camera, the password a key of that camera."""

from collections.abc import Awaitable, Callable

from ingest_svc.admission import Admission
from mesh.permissions import UPLOAD
from mesh.problems import Denied
from mesh.security import Caller


class Accounts:
    def __init__(self, verify: Callable[[str], Awaitable[Caller]], admission: Admission) -> None:
        self._verify, self._admission = verify, admission

    async def folder(self, camera_id: str, password: str) -> str:
        """Returns the name of the camera's folder, which need not exist yet.

        Raises Unauthenticated BAD_API_KEY; Denied OTHER_CAMERA, also for keys that are of no camera, because
        they open more than this; Conflict CAMERA_DELETED or CAMERA_DISABLED; Unavailable if the store cannot
        check the key.
        """
        caller = await self._verify(password)
        caller.require(UPLOAD)
        if caller.camera_id != camera_id:
            raise Denied("this is no key of this camera", "OTHER_CAMERA", camera_id=camera_id)
        return self._admission.of_upload(camera_id, caller).name
