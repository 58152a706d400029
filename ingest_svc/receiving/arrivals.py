"""When uploads arrived whose capture time is their arrival. It stays the same when one has to be sent again,
after a kill, too."""

import time
from contextlib import suppress
from pathlib import Path

# An upload that is not sent again within this time counts as a new one.
KEPT_SECONDS = 24 * 3600.0
FOLDER_NAME = ".lares.arrivals"


class Arrivals:
    """An empty file for each upload that is not announced yet, named by its media, in a hidden folder of the
    cameras folder. Its mtime is the time of arrival."""

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER_NAME
        with suppress(OSError):
            for kept in list(self._folder.iterdir()):
                if time.time() - kept.stat().st_mtime > KEPT_SECONDS:
                    kept.unlink()

    def arrived(self, media_id: str) -> int:
        """Returns the time of arrival in nanoseconds: now, or that of an attempt before. Blocks."""
        try:
            self._folder.mkdir(exist_ok=True)
            with suppress(FileExistsError):
                (self._folder / media_id).touch(exist_ok=False)
            return (self._folder / media_id).stat().st_mtime_ns
        except OSError:  # the folder may be away, which need not stop an upload
            return time.time_ns()

    def announced(self, media_id: str) -> None:
        """Forgets an upload. Blocks."""
        with suppress(OSError):
            (self._folder / media_id).unlink()
