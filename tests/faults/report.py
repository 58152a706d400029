"""The figures of one or more parts, as tables in Markdown."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import quantiles
from typing import Any

from tests.faults.boundaries import BOUNDARIES
from tests.faults.plan import BOUNDARY, WEIGHTS

Log = dict[str, Any]


def describe(logs: Sequence[Log]) -> str:
    """Kinds with counts and recovery times, hits of each boundary, seeds and hours."""
    faults = [fault for log in logs for fault in log["faults"]]
    hours = sum(log["seconds"] + log["golden_seconds"] for log in logs) / 3600
    seeds = ", ".join(str(log["seed"]) for log in logs)
    head = (
        f"{len(faults)} faults in {sum(log['rounds'] for log in logs)} rounds of {len(logs)} parts, "
        f"{hours:.2f} hours with the runs without faults; seeds {seeds}"
    )
    return "\n\n".join([head, _kinds(faults), _boundaries(faults, logs), _counts(logs), *_notes(logs)])


def boundary_table() -> str:
    """For docs/reliability.md: what is done and what is not where a process ends."""
    lines = ["| Boundary | A process ends there, and |", "| --- | --- |"]
    lines += [f"| `{each.name}` | {each.says} |" for each in BOUNDARIES]
    return "\n".join(lines)


def missing(logs: Sequence[Log], least: int) -> list[str]:
    """The kinds and boundaries that were hit less often than `least`."""
    hits = _hits(fault for log in logs for fault in log["faults"])
    names = [*WEIGHTS, *(boundary.name for boundary in BOUNDARIES)]
    return [f"{name}: {hits[name]}" for name in names if hits[name] < least]


def _hits(faults: Iterable[Log]) -> Counter[str]:
    return Counter(fault["detail"] if fault["kind"] == BOUNDARY else fault["kind"] for fault in faults)


def _kinds(faults: Sequence[Log]) -> str:
    counts = Counter(fault["kind"] for fault in faults)
    recovered: dict[str, list[float]] = defaultdict(list)
    for fault in faults:
        if fault["recovered"] is not None:
            recovered[fault["kind"]].append(fault["recovered"])
    lines = ["| Fault | Times | Recovery p50, s | p99, s |", "| --- | --- | --- | --- |"]
    for kind in (BOUNDARY, *WEIGHTS):
        middle, slow = _percentiles(recovered[kind])
        lines.append(f"| {kind} | {counts[kind]} | {middle} | {slow} |")
    return "\n".join(lines)


def _percentiles(values: list[float]) -> tuple[str, str]:
    """The median and the 99th percentile; of few values, the latter is the greatest."""
    if not values:
        return "", ""
    if len(values) == 1:
        return f"{values[0]:.1f}", f"{values[0]:.1f}"
    cuts = quantiles(values, n=100, method="inclusive")
    return f"{cuts[49]:.1f}", f"{cuts[98]:.1f}"


def _boundaries(faults: Sequence[Log], logs: Sequence[Log]) -> str:
    hits = _hits(faults)
    passes: Counter[str] = Counter()
    for log in logs:
        passes.update(log["passes"])
    lines = ["| Boundary | Ended there | Crossed |", "| --- | --- | --- |"]
    lines += [f"| {each.name} | {hits[each.name]} | {passes[each.name]} |" for each in BOUNDARIES]
    return "\n".join(lines)


def _counts(logs: Sequence[Log]) -> str:
    counts: Counter[str] = Counter()
    for log in logs:
        counts.update(log["counts"])
    return ", ".join(f"{count} {what}" for what, count in counts.items())


def _notes(logs: Sequence[Log]) -> list[str]:
    ended = Counter(line for log in logs for line in log["ended_by_themselves"])
    notes = [f"ended by itself: {line} ({times} times)" for line, times in ended.items()]
    return [*notes, *(f"not run: {line}" for log in logs for line in log["not_run"])]
