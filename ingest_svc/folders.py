"""Which folder is which camera."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ingest_svc.refusal import Reason, Refusal
from ingest_svc.slug import slug


@dataclass(frozen=True)
class Change:
    """What a look at the folders brought: folders that became a camera's, and folders refused for a new
    reason."""

    gained: list[str] = field(default_factory=list)
    refused: dict[str, Refusal] = field(default_factory=dict)


class Folders:
    """One folder for each camera: the first by name; who holds a camera keeps it while it is there."""

    def __init__(self) -> None:
        self._folder_of: dict[str, str] = {}
        self._camera_of: dict[str, str] = {}
        self._refused: dict[str, Refusal] = {}

    def camera(self, folder: str) -> str | None:
        """The camera that `folder` holds; None where it holds none."""
        return self._camera_of.get(folder)

    def folder(self, camera_id: str) -> str | None:
        return self._folder_of.get(camera_id)

    def known(self, folder: str) -> bool:
        return folder in self._camera_of or folder in self._refused

    def look(self, present: Iterable[str]) -> Change:
        """`present` are the names of all folders there now."""
        names = sorted(present)
        for gone in set(self._camera_of) - set(names):
            del self._folder_of[self._camera_of.pop(gone)]
        gained: list[str] = []
        refused: dict[str, Refusal] = {}
        for name in names:
            if name in self._camera_of:
                continue
            refusal = self._claim(name)
            if refusal is None:
                gained.append(name)
            else:
                refused[name] = refusal
        new = {name: refusal for name, refusal in refused.items() if self._refused.get(name) != refusal}
        self._refused = refused
        return Change(gained, new)

    def _claim(self, name: str) -> Refusal | None:
        camera_id = slug(name)
        if camera_id is None:
            return Refusal(Reason.CAMERA_NAME, "no camera id can be made of this folder's name")
        holder = self._folder_of.setdefault(camera_id, name)
        if holder != name:
            return Refusal(Reason.CAMERA_CONFLICT, f"the folder {holder!r} is already the camera {camera_id}")
        self._camera_of[name] = camera_id
        return None
