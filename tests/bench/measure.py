"""The rows that benchmarks print, medians and their intervals, percentiles, and CPU and memory of process
trees."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import comb
from statistics import median

import psutil

from tests.support.lares import Lares

# The columns of a row.
_LINE = "{:<4} {:<60} {:>10} {:>15} {:>17} {:>22} {:>21}   {}"
HEADER = _LINE.format("", "measure", "now", "before", "now/before", "beside", "ratio", "limit")
NOTE = """\
now: this tree. before: the commit that it is compared with. beside: a peer or a limit, from the same run.
In brackets: the interval of the median by order statistics, at least 95 %, or all values if fewer than 6."""


@dataclass(frozen=True)
class Row:
    """One measurement: its name, the value, the value that it is compared with, their ratio, the limit (empty
    if there is none), and whether it was kept; then the value of the earlier commit, and the ratio to it."""

    measure: str
    value: str
    compared_with: str
    ratio: str
    limit: str
    met: bool
    before: str = ""
    change: str = ""

    def __str__(self) -> str:
        mark = "" if not self.limit else "ok" if self.met else "MISS"
        return _LINE.format(
            mark,
            self.measure,
            self.value,
            self.before,
            self.change,
            self.compared_with,
            self.ratio,
            self.limit,
        )


@dataclass
class Samples:
    """The values of one figure, by pair: of this tree, and of the earlier commit, if there is one."""

    now: list[float] = field(default_factory=list)
    before: list[float] = field(default_factory=list)

    def change(self) -> str:
        """The ratio of now to before, within the pairs."""
        return spread(ratios(self.now, self.before)) if self.before else ""

    def row(self, measure: str, text: Callable[[float], str], most: float | None = None) -> Row:
        """The row of a figure whose median should be at most `most`."""
        found = median(self.now)
        limit = "" if most is None else f"<= {text(most)}"
        before = text(median(self.before)) if self.before else ""
        return Row(measure, text(found), "", "", limit, most is None or found <= most, before, self.change())

    def row_beside(
        self, peer: "Samples", measure: str, name: str, text: Callable[[float], str], most: float
    ) -> Row:
        """The row of a figure whose ratio to that of its peer, by the median, should be at most `most`."""
        share = ratios(self.now, peer.now)
        before = ""
        if self.before:
            before = f"{text(median(self.before))}, {median(ratios(self.before, peer.before)):.2f}x"
        return Row(
            measure,
            text(median(self.now)),
            f"{name} {text(median(peer.now))}",
            spread(share, "{:.2f}x".format),
            f"<= {most}x",
            median(share) <= most,
            before,
            self.change(),
        )


def ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    return [value / other for value, other in zip(values, others, strict=True)]


def spread(values: Sequence[float], text: Callable[[float], str] = "{:.2f}".format) -> str:
    """The median, and its interval if there is more than one value."""
    if len(values) == 1:
        return text(values[0])
    low, high = interval(values)
    return f"{text(median(values))} ({text(low)}-{text(high)})"


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns the narrowest symmetric pair of order statistics that contains the median with 95 % confidence,
    or the whole range if there are too few values."""
    ordered, n = sorted(values), len(values)
    cut = 0
    while cut < (n - 1) // 2 and 2 * sum(comb(n, k) for k in range(cut + 2)) / 2**n <= 0.05:
        cut += 1
    return ordered[cut], ordered[n - 1 - cut]


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the smallest value that is at least as large as `share` of all values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us"


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Returns the user and system time that these processes have used so far."""
    total = 0.0
    for process in processes:
        times = process.cpu_times()
        total += times.user + times.system
    return total


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


# The module that the child of a sandbox runs. Earlier commits have another name for it.
SANDBOX_CHILD = ("mesh.processes.sandbox_child", "mesh.child")


def program(process: psutil.Process) -> str:
    """Returns the part of Lares to which a process belongs."""
    line = " ".join(process.cmdline())
    if any(module in line for module in SANDBOX_CHILD):
        return "detector"
    return "lares" if "-m deploy" in line else process.name()


def cpu_by_program(lares: Lares) -> dict[str, float]:
    """Returns the CPU seconds that a running Lares has used so far, by the parts that `program` names."""
    assert lares.process is not None
    used: dict[str, float] = {}
    for process in [psutil.Process(lares.process.pid), *lares.children()]:
        try:
            name = program(process)
            used[name] = used.get(name, 0.0) + cpu_seconds([process])
        except psutil.NoSuchProcess:
            continue
    return used
