"""The switches by which the harness reaches into its service processes: for each process a small file that
both have in memory. What is counted in it survives kill -9."""

import mmap
import os
import signal
from pathlib import Path

# The cells of 64 bits that every process has; `clock_shift.c` uses the first two.
CLOCK_SHIFT, CLOCK_READS, DISK_FULL, DISK_REFUSED = range(4)
FIRST_BOUNDARY = 4
CELL_BYTES = 8
CELLS = 256


class Switches:
    """The cells of one process. Boundaries are told apart by their number in the table.

    Only its own process counts in it, and only the harness arms and changes the other switches.
    """

    def __init__(self, path: Path) -> None:
        """Makes the file if it is missing."""
        self.path = path
        with path.open("ab") as file:
            file.truncate(CELLS * CELL_BYTES)
        with path.open("r+b") as file:
            self._cells = memoryview(mmap.mmap(file.fileno(), CELLS * CELL_BYTES)).cast("q")

    def __getitem__(self, cell: int) -> int:
        return self._cells[cell]

    def __setitem__(self, cell: int, value: int) -> None:
        self._cells[cell] = value

    def passes(self, number: int) -> int:
        """How often the process has crossed this boundary."""
        return self._cells[FIRST_BOUNDARY + 2 * number]

    def arm(self, number: int, crossing: int) -> None:
        """Has the process kill itself at its `crossing`-th crossing from now on; 0: never."""
        self._cells[FIRST_BOUNDARY + 2 * number + 1] = crossing

    def cross(self, number: int, claim: Path) -> None:
        """Called by the process at a boundary. If it is armed, the process that makes the file `claim` first
        ends there, as by the kernel's out-of-memory killer: nothing is flushed, closed or caught."""
        cell = FIRST_BOUNDARY + 2 * number
        self._cells[cell] += 1
        if not self._cells[cell + 1]:
            return
        self._cells[cell + 1] -= 1
        if not self._cells[cell + 1]:
            try:
                os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                return  # another replica was faster
            os.kill(os.getpid(), signal.SIGKILL)
