"""What a cluster has done and used between two times, and the rows that compare it with another run."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.measure import Row, milliseconds, ratios, spread

# The processes of the embedded detector, which are those of a sandbox, apart from detect_svc itself.
DETECTOR = "detector"


@dataclass(frozen=True)
class Progress:
    """How far a cluster has come at a time: photos recorded, and CPU seconds by part."""

    at: float
    recorded: int
    cpu: dict[str, float]


@dataclass(frozen=True)
class Spent:
    """What happened between two times. `cpu` is in seconds, by part."""

    seconds: float
    photos: int
    cpu: dict[str, float]

    @classmethod
    def between(cls, begin: Progress, end: Progress) -> "Spent":
        cpu = {part: used - begin.cpu.get(part, 0.0) for part, used in end.cpu.items()}
        return cls(end.at - begin.at, end.recorded - begin.recorded, cpu)

    @property
    def rate(self) -> float:
        """Photos a second."""
        return self.photos / self.seconds

    @property
    def cores(self) -> float:
        """How many cores were busy with it."""
        return sum(self.cpu.values()) / self.seconds

    def cpu_of_a_photo(self, *parts: str) -> float:
        """In seconds: of these parts, or of all."""
        used = sum(used for part, used in self.cpu.items() if not parts or part in parts)
        return used / max(1, self.photos)


Runs = Sequence[Spent]


def rate_row(title: str, runs: Runs, peer: str, peers: Runs, least: float = 0.0) -> Row:
    """Photos a second, beside those of the peer; the ratio should be at least `least`."""
    title = f"{title}, photos a second"
    return _row(title, runs, peer, peers, lambda run: run.rate, "{:.1f}".format, least)


def cpu_rows(
    runs: Runs, peer: str, peers: Runs, title: str = "  CPU of a photo", most: float = 0.0
) -> list[Row]:
    """CPU of a photo beside that of the peer: of all parts, whose ratio should be at most `most`, and of
    each; then how many cores were busy."""
    rows = [_row(title, runs, peer, peers, lambda run: run.cpu_of_a_photo(), milliseconds, most=most)]
    for part in sorted(runs[0].cpu):

        def of_part(run: Spent, part: str = part) -> float:
            return run.cpu_of_a_photo(part)

        rows.append(_row(f"    of that {part}", runs, peer, peers, of_part, milliseconds))
    busy = f"  cores busy, of {os.cpu_count()}"
    return [*rows, _row(busy, runs, peer, peers, lambda run: run.cores, "{:.2f}".format)]


def _row(
    title: str,
    runs: Runs,
    peer: str,
    peers: Runs,
    figure: Callable[[Spent], float],
    text: Callable[[float], str],
    least: float = 0.0,
    most: float = 0.0,
) -> Row:
    ours, theirs = [figure(run) for run in runs], [figure(run) for run in peers]
    # Without a ratio if the peer has used too little to be counted, as in a run of seconds.
    shares = ratios(ours, theirs) if all(theirs) else []
    limit = f">= {least}x" if least else f"<= {most}x" if most else ""
    met = not limit or (bool(shares) and (median(shares) >= least if least else median(shares) <= most))
    return Row(
        title,
        text(median(ours)),
        f"{peer} {text(median(theirs))}",
        spread(shares, "{:.2f}x".format) if shares else "",
        limit,
        met,
    )
