"""What the benchmarks share: CPU clocks of process trees, percentiles, and the table they print."""

from collections.abc import Iterable
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Row:
    """One measure: what it is against, what was found, what is aimed at, and whether that was met."""

    measure: str
    found: str
    against: str
    ratio: str
    aim: str
    met: bool

    def __str__(self) -> str:
        mark = "ok  " if self.met else "MISS"
        return (
            f"{mark} {self.measure:<52} {self.found:>14} {self.against:>26} {self.ratio:>9}   aim {self.aim}"
        )


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """User and system time of these processes so far."""
    total = 0.0
    for process in processes:
        times = process.cpu_times()
        total += times.user + times.system
    return total


def percentile(values: list[float], share: float) -> float:
    """The smallest value with at least `share` of all at or below it."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def resident_megabytes(process: psutil.Process) -> dict[str, float]:
    """Proportional set size of a whole tree, by program: shared pages are counted once."""
    sizes: dict[str, float] = {}
    for one in [process, *process.children(recursive=True)]:
        try:
            name = one.name()
            sizes[name] = sizes.get(name, 0.0) + one.memory_full_info().pss / 2**20
        except psutil.NoSuchProcess:
            continue
    return sizes
