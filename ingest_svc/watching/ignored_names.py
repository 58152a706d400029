"""Which files and folders of the cameras folder are none of a camera's: hidden, temporary, or a system's."""

import re
from collections.abc import Iterable
from fnmatch import translate
from unicodedata import normalize

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
    One with a slash is a path below the cameras folder. Upper and lower case are not distinguished.

    Paths are relative to the cameras folder. The answer is about the last name only: whoever goes down from
    the cameras folder does not enter a folder that is ignored.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        own = [pattern.strip("/") for pattern in patterns]
        names = [pattern for pattern in own if "/" not in pattern]
        paths = [pattern for pattern in own if "/" in pattern]
        self._folder = _any_of([*SYSTEM_FOLDERS, *names])
        self._file = _any_of([*SYSTEM_FILES, *TEMPORARY_FILES, *names])
        self._path = _any_of(paths) if paths else None

    def folder(self, path: str) -> bool:
        return self._is_ignored(path, self._folder)

    def file(self, path: str) -> bool:
        return self._is_ignored(path, self._file)

    def _is_ignored(self, path: str, names: re.Pattern[str]) -> bool:
        name = path.rpartition("/")[2]
        if name.startswith(".") or names.match(_composed(name)):
            return True
        return self._path is not None and self._path.match(_composed(path)) is not None


def _any_of(patterns: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(translate(_composed(pattern)) for pattern in patterns), re.IGNORECASE)


def _composed(text: str) -> str:
    """macOS stores `ü` as two characters."""
    return normalize("NFC", text)
