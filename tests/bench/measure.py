"""The rows that benchmarks print, CPU and memory of process trees, and percentiles."""

from collections.abc import Iterable
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Row:
    """One measurement: its name, the value, the value that it is compared with, their ratio, the limit, and
    whether the limit was kept."""

    measure: str
    value: str
    compared_with: str
    ratio: str
    limit: str
    met: bool

    def __str__(self) -> str:
        mark = "ok  " if self.met else "MISS"
        return (
            f"{mark} {self.measure:<52} {self.value:>14} {self.compared_with:>26} {self.ratio:>9}"
            f"   limit {self.limit}"
        )


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Returns the user and system time that these processes have used so far."""
    total = 0.0
    for process in processes:
        times = process.cpu_times()
        total += times.user + times.system
    return total


def percentile(values: list[float], share: float) -> float:
    """Returns the smallest value that is at least as large as `share` of all values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def resident_megabytes(process: psutil.Process) -> dict[str, float]:
    """Returns the memory of a process tree in MB by program, as proportional set size: each shared page
    counts once."""
    sizes: dict[str, float] = {}
    for one in [process, *process.children(recursive=True)]:
        try:
            name = one.name()
            sizes[name] = sizes.get(name, 0.0) + one.memory_full_info().pss / 2**20
        except psutil.NoSuchProcess:
            continue
    return sizes
