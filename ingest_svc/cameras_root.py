"""The cameras folder: where what is in it really is, also if the folder of a camera is a link.

A link that leads into one of LARES_INGEST_LINK_TARGETS is followed, and no other: a path below it is
translated to the place to which the link has led, and from there on there must be no link.
"""

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from ingest_svc.rejection import RejectionCause, RejectReason
from mesh.config import setting

NOT_ALLOWED = RejectionCause(
    RejectReason.LINK_OUTSIDE,
    "a link that leads out of the cameras folder; a camera's folder may be a link to a folder in one of"
    f" {setting('ingest_link_targets')}",
)


class CamerasRoot:
    """`path` is the cameras folder: absolute, and without links. `targets` are the folders to which, and into
    which, links may lead; but not to, into or around one of the folders `private`. `is_ignored` returns
    whether a name is no camera's.

    `refresh` may be called by one thread at a time, everything else by any. Paths are relative to the cameras
    folder; "" is that folder.
    """

    def __init__(
        self,
        path: Path,
        targets: Iterable[str | Path] = (),
        private: Iterable[Path] = (),
        is_ignored: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.path = path
        self._targets, self._private, self._is_ignored = list(targets), [path, *private], is_ignored
        # Replaced as a whole, because other threads read them.
        self._places: dict[str, str] = {}
        self._refused: dict[str, RejectionCause] = {}

    def __truediv__(self, path: str) -> Path:
        """Where the file or folder is: by way of the link's target, if its camera's folder is a link."""
        return Path(self.full(path)) if self._places else self.path / path

    def full(self, path: str) -> str:
        """Like `/`, and faster."""
        if self._places:
            camera, slash, below = path.partition("/")
            place = self._places.get(camera)
            if place is not None:
                return f"{place}{slash}{below}"
        return f"{self.path}/{path}" if path else str(self.path)

    @property
    def links(self) -> set[str]:
        """The names of the links that are followed. What they lead to may be away."""
        return set(self._places)

    def is_link(self, path: str) -> bool:
        """Whether it is such a link."""
        return path in self._places

    def is_linked(self, path: str) -> bool:
        """Whether it is such a link, or below one."""
        return bool(self._places) and path.partition("/")[0] in self._places

    def is_expected(self, folder: str) -> bool:
        """Whether the folder is away if it does not exist, and not removed."""
        return not folder or folder in self._places

    def top(self, path: str) -> str:
        """The folder in which everything of a path's camera is: the target of its link, or else the cameras
        folder."""
        return self._places.get(path.partition("/")[0], str(self.path))

    def contains(self, path: str, real: str) -> bool:
        """Whether `real`, without links, is where a file with this path may be."""
        return real.startswith(f"{self.top(path)}/")

    def refusal(self, name: str) -> RejectionCause:
        """Why a link is not followed."""
        return self._refused.get(name, NOT_ALLOWED)

    def may_be_link(self, name: str) -> bool:
        """Whether it is a link now, or was one when `refresh` looked. Costs little for a file among thousands
        that somebody puts into the cameras folder itself."""
        if not self._targets:
            return False
        return name in self._places or name in self._refused or os.path.islink(self.path / name)

    def refresh(self) -> set[str]:
        """Looks where the links lead now. Returns the names of those that have begun or ceased to be
        followed, or lead to another place than before. Blocks."""
        if not self._targets:
            return set()
        try:
            with os.scandir(self.path) as entries:
                names = [e.name for e in entries if e.is_symlink() and not self._is_ignored(e.name)]
        except OSError:  # the cameras folder is away
            return set()
        before, places, refused = self._places, dict[str, str](), dict[str, RejectionCause]()
        targets, private = _resolved(self._targets), _resolved(self._private)
        found = {name: os.path.realpath(self.path / name) for name in names}
        # Of several links to one folder, the one that is followed already remains so.
        for name in sorted(found, key=lambda name: (before.get(name) != found[name], name)):
            cause = _refusal(found[name], targets, private, places)
            if cause is None:
                places[name] = found[name]
            else:
                refused[name] = cause
        self._places, self._refused = places, refused
        return {name for name in before.keys() | places.keys() if before.get(name) != places.get(name)}


def _resolved(folders: Iterable[str | Path]) -> list[str]:
    """Each time anew, because a folder of the settings may be reached by links, and these may change."""
    return [os.path.realpath(folder) for folder in folders]


def _refusal(
    place: str, targets: list[str], private: list[str], followed: dict[str, str]
) -> RejectionCause | None:
    if not any(_is_in(place, target) for target in targets):
        return NOT_ALLOWED
    for folder in private:
        if _is_in(place, folder) or _is_in(folder, place):
            return RejectionCause(RejectReason.LINK_OUTSIDE, f"a link to what Lares uses itself, {folder!r}")
    if _is_something_else(place):
        return RejectionCause(RejectReason.LINK_OUTSIDE, "a link to something that is not a folder")
    for other, taken in followed.items():
        if _is_in(place, taken) or _is_in(taken, place):
            detail = f"a link to the same photos as {other!r}"
            return RejectionCause(RejectReason.CAMERA_CONFLICT, detail)
    return None


def _is_in(place: str, folder: str) -> bool:
    return place == folder or place.startswith(folder if folder.endswith("/") else f"{folder}/")


def _is_something_else(place: str) -> bool:
    """False if nothing is there: it may be mounted later."""
    try:
        return not stat.S_ISDIR(os.lstat(place).st_mode)
    except OSError:
        return False
