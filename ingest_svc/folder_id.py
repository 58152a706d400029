"""What names a cameras folder: the same for every process that mounts it, on any machine.

The name is in a hidden file of the folder. A complete file is linked to its place, which only one process can
do, on NFS, too. A folder to which nobody can write is named by its path instead: then all processes have to
mount it at the same place.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

FILE_NAME = ".lares.id"
MAX_BYTES = 200
NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


def folder_id(folder: Path) -> str:
    """Names the folder if it has no name yet. Blocks. Raises OSError while it is away."""
    if found := read_folder_id(folder):
        return found
    try:
        _make(folder)
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        os.scandir(folder).close()  # it may be away
        return f"path:{folder}"
    return folder_id(folder)


def read_folder_id(folder: Path) -> str:
    """Empty if the folder has no name. Blocks. Raises OSError."""
    with suppress(FileNotFoundError), (folder / FILE_NAME).open("rb") as file:
        return file.read(MAX_BYTES).decode(errors="replace").strip()
    return ""


def _make(folder: Path) -> None:
    made, place = folder / f"{FILE_NAME}.{uuid4().hex}", folder / FILE_NAME
    try:
        with made.open("x") as file:
            file.write(f"{uuid4()}\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(made, place)
        except FileExistsError:
            if not read_folder_id(folder):  # a power failure has left it empty, perhaps
                os.replace(made, place)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            os.replace(made, place)  # a file system without hard links
    finally:
        made.unlink(missing_ok=True)
