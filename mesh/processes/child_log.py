"""The log of a child process: bounded, and at hand when the child fails."""

from pathlib import Path
from typing import IO, ClassVar


class ChildLog:
    """A file that the child appends to by itself, so that a busy parent never holds it up."""

    MAX_BYTES: ClassVar[int] = 1_000_000
    TRIM_SECONDS: ClassVar[float] = 60.0

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin = 0

    def open(self) -> IO[bytes]:
        """For the next life of the child: opened to append, which is what lets `trim` cut it safely."""
        self.trim()
        file = self.path.open("ab")
        self._begin = file.tell()
        return file

    def trim(self) -> None:
        """Over the bound, what there is becomes `<name>.1`, and the log starts anew."""
        if self.path.exists() and self.path.stat().st_size > self.MAX_BYTES:
            text = self.path.read_bytes()[-self.MAX_BYTES :]
            self.path.with_name(self.path.name + ".1").write_bytes(text)
            with self.path.open("r+b") as file:
                file.truncate(0)
            self._begin = 0

    def tail(self, lines: int = 12) -> str:
        """The last lines of this life."""
        if not self.path.exists():
            return ""
        with self.path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(self._begin, file.tell() - 8000))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
