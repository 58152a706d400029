"""The file that a rendition is written to: its parent has opened it. Runs in a sandbox's child only."""

import errno
import os
from typing import Self

from mesh.processes.sandbox_child import InputRefused

# Failures of the disk, which may pass.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


# The pictures in a file: index of the frame, offset and size in bytes. Empty if the file is one piece.
Parts = list[tuple[int, int, int]]


class OutputFile:
    """Has the methods that PyAV needs of a file, and its own position. Keeps the first refusal, because a
    library may hide an error of the file behind one of its own."""

    def __init__(self, descriptor: int, max_bytes: int) -> None:
        self._descriptor, self._max_bytes = descriptor, max_bytes
        self._position = 0
        self.refusal: InputRefused | None = None

    @classmethod
    def empty(cls, descriptor: int, max_bytes: int) -> Self:
        """The file without what a child that has crashed may have left in it."""
        os.ftruncate(descriptor, 0)
        return cls(descriptor, max_bytes)

    def opened_again(self) -> Self:
        """The same file at its beginning."""
        return type(self)(self._descriptor, self._max_bytes)

    def write(self, content: bytes) -> int:
        """Raises InputRefused TOO_LARGE and DISK_FAILED."""
        written = 0
        while written < len(content):
            if self._position + len(content) - written > self._max_bytes:
                raise self._refuse(f"it would have more than {self._max_bytes} bytes", "TOO_LARGE")
            try:
                length = os.pwrite(self._descriptor, memoryview(content)[written:], self._position)
            except OSError as error:
                if error.errno not in DISK_ERRORS:
                    raise
                raise self._refuse(f"it cannot be written: {error.strerror}", "DISK_FAILED") from None
            written, self._position = written + length, self._position + length
        return written

    def read(self, length: int) -> bytes:
        content = os.pread(self._descriptor, length, self._position)
        self._position += len(content)
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += os.fstat(self._descriptor).st_size
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position

    def _refuse(self, message: str, reason: str) -> InputRefused:
        self.refusal = InputRefused(message, reason)
        return self.refusal
