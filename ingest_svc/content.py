"""A file's bytes, for those who look at its outside: read where they are looked at, never all at once."""

from collections.abc import Callable
from typing import Protocol

WINDOW_BYTES = 64 * 1024


class Content(Protocol):
    """What `bytes` can, too."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...

    def rfind(self, wanted: bytes, start: int, /) -> int: ...


class FileContent:
    """`read(start, length)` gives less than `length` only at the end, and raises OSError."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._size = read, size
        self._head = read(0, WINDOW_BYTES)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, end, _ = part.indices(self._size)
        if end <= len(self._head):
            return self._head[start:end]
        return self._read(start, max(0, end - start))

    def rfind(self, wanted: bytes, start: int) -> int:
        """Where `wanted` lies last, from `start` on; -1 where it does not."""
        end = self._size
        while end - start >= len(wanted):
            first = max(start, end - WINDOW_BYTES)
            if (found := self[first:end].rfind(wanted)) >= 0:
                return first + found
            if first == start:
                break
            end = first + len(wanted) - 1  # it may lie across the border
        return -1
