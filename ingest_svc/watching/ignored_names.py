"""Which files and folders of the cameras folder are none of a camera's: hidden, temporary, or a system's."""

import re
from collections.abc import Iterable
from fnmatch import translate

# What network storages, Windows, macOS, Linux and Android put into folders that they share or look after:
# thumbnails, recycle bins, snapshots and indexes. Names that begin with a dot are ignored anyway.
SYSTEM_FOLDERS = (
    "@eadir",
    "@tmp",
    "@recycle",
    "@recently-snapshot",
    "@snapshot",
    "@sharesnap",
    "@sharebin",
    "@synoresource",
    "@synodrive",
    "#recycle",
    "#snapshot",
    "~snapshot",
    "$recycle.bin",
    "$extend",
    "recycler",
    "recycled",
    "system volume information",
    "found.[0-9][0-9][0-9]",
    "msdownld.tmp",
    "wpsystem",
    "lost+found",
    "lost.dir",
    "__macosx",
    "network trash folder",
    "temporary items",
)
SYSTEM_FILES = (
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",
    "*@synoeastream",
    "*@synoresource",
)
TEMPORARY_FILES = ("*.part", "*.tmp")


class IgnoredNames:
    """`patterns` are more names to ignore, of files and folders at any depth, with the wildcards of a shell.
    One with a slash is a path below the cameras folder. Upper and lower case are not distinguished."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        own = [pattern.strip("/") for pattern in patterns]
        names = [pattern for pattern in own if "/" not in pattern]
        self._folder = _any_of([*SYSTEM_FOLDERS, *names])
        self._file = _any_of([*SYSTEM_FILES, *TEMPORARY_FILES, *names])
        self._path = _any_of([pattern for pattern in own if "/" in pattern])

    def folder(self, path: str) -> bool:
        """Whether to ignore the folder and everything in it. `path` is relative to the cameras folder."""
        return any(self.folder_name(name) for name in path.split("/")) or self._listed(path)

    def folder_name(self, name: str) -> bool:
        return name.startswith(".") or self._folder.match(name) is not None

    def file(self, path: str) -> bool:
        """Whether to ignore the file, for its own name or for that of a folder that it is in."""
        folder, slash, name = path.rpartition("/")
        return self.file_name(name) or (bool(slash) and self.folder(folder)) or self._listed(path)

    def file_name(self, name: str) -> bool:
        return name.startswith(".") or self._file.match(name) is not None

    def _listed(self, path: str) -> bool:
        if self._path.pattern == NOTHING:
            return False
        parts = path.split("/")
        return any(self._path.match("/".join(parts[:end])) for end in range(1, len(parts) + 1))


NOTHING = r"(?!)"


def _any_of(patterns: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)) or NOTHING, re.IGNORECASE)
