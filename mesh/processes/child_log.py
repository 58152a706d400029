"""The log file of a child process."""

from pathlib import Path
from typing import IO, ClassVar


class ChildLog:
    """A bounded log file. The child writes to it directly, so that a busy parent does not hold it up."""

    MAX_BYTES: ClassVar[int] = 1_000_000
    TRIM_SECONDS: ClassVar[float] = 60.0

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = 0

    def open(self) -> IO[bytes]:
        """The file for the next start of the child. It is opened to append, so that `trim` can empty it
        while the child writes."""
        self.trim()
        file = self.path.open("ab")
        self._start = file.tell()
        return file

    def trim(self) -> None:
        """If the file exceeds MAX_BYTES, moves the end of its content to `<name>.1` and empties it."""
        if self.path.exists() and self.path.stat().st_size > self.MAX_BYTES:
            text = self.path.read_bytes()[-self.MAX_BYTES :]
            self.path.with_name(self.path.name + ".1").write_bytes(text)
            with self.path.open("r+b") as file:
                file.truncate(0)
            self._start = 0

    def tail(self, lines: int = 12) -> str:
        """The last lines since the child was last started."""
        if not self.path.exists():
            return ""
        with self.path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(self._start, file.tell() - 8000))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
