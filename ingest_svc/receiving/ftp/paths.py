"""Paths as FTP clients name them: `/` is the camera's folder, and nothing leads out of it."""

import os
import unicodedata

from ingest_svc.watching.ignored_names import IgnoredNames

# Of one name in bytes: file systems allow 255, and a name that is taken gets a suffix.
MAX_NAME, MAX_PATH, MAX_DEPTH = 240, 1024, 16
# Names of files that are not complete for their camera, which renames them afterwards.
UNFINISHED_SUFFIXES = (".tmp", ".part")


class BadName(Exception):
    """A name that no file of a camera can have. The text says why."""


def resolved(folder: str, path: str) -> str:
    """Returns `path`, which is relative to `folder`, in its simplest form. `..` in `/` stays there; a
    backslash separates names, too. Undecodable bytes are surrogates.

    Raises BadName for control characters and for names or paths that are too long or too deep.
    """
    names = list[str]()
    path = path.replace("\\", "/")
    for name in (path if path.startswith("/") else f"{folder}/{path}").split("/"):
        if name == "..":
            del names[-1:]
        elif name not in ("", "."):
            names.append(_checked(name))
    whole = "/" + "/".join(names)
    if len(names) > MAX_DEPTH or len(os.fsencode(whole)) > MAX_PATH:
        raise BadName("the path is too long")
    return whole


def _checked(name: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name):
        raise BadName("a name has control characters")
    try:
        size = len(os.fsencode(name))
    except UnicodeEncodeError:
        raise BadName("a name is not text") from None
    if size > MAX_NAME:
        raise BadName("a name is too long")
    return name


def parts(path: str) -> list[str]:
    return [name for name in path.split("/") if name]


def require_taken(folder: str, path: str, ignored: IgnoredNames) -> None:
    """Raises BadName if the watcher of the cameras folder ignores a file of this path in a camera's folder,
    unless the camera is going to rename it. It would never be taken in."""
    *folders, name = parts(path) or [""]
    if not name:
        raise BadName("this is a folder")
    below = ""
    for part in [folder, *folders]:
        below = f"{below}/{part}".lstrip("/")
        if ignored.folder(below):
            raise BadName(f"files in folders named {part} are not taken")
    if ignored.file(f"{below}/{name}") and not is_unfinished(name):
        raise BadName("files with this name are not taken")


def is_unfinished(name: str) -> bool:
    """Whether a camera names a file so until it is complete."""
    return name.lower().endswith(UNFINISHED_SUFFIXES) and not name.startswith(".")
