"""The time that a cluster needs for a large backlog of photos. A stub that takes no time is in place of the
detector, and everything else is real, so this is what the parts beside the detector can do. The last tenth
beside the first one says whether it slows down.

The photos are on the log already when detect_svc starts, as after it was away.
"""

import sys
from itertools import pairwise
from typing import NamedTuple

from mesh.topics import INGESTED
from tests.bench.announced import camera_names, contents, ingested, keep, media, tiny_photo
from tests.bench.measure import Row
from tests.bench.measured_cluster import MeasuredCluster, measured_cluster
from tests.bench.spent import Progress, Spent, cpu_rows, rate_row
from tests.bench.trees import Bench

COUNTS = {"store": 1, "detect": 1, "reason": 1, "gateway": 1}
CAMERAS = 96
TENTHS, FIRST = 10, "first tenth"
LEAST = 0.8


class Mark(NamedTuple):
    """How far the cluster has come, and the MB of each service then."""

    progress: Progress
    memory: dict[str, float]


async def measure(bench: Bench) -> list[Row]:
    turns = max(1, round(bench.photos / CAMERAS))
    async with measured_cluster(bench.folder / "drain", COUNTS, later=["detect"]) as measured:
        kept = await keep(measured.blobs, contents([tiny_photo(bench.folder)], turns))
        await measured.publish(INGESTED, map(ingested, media(camera_names(CAMERAS), kept)))
        (detect,) = measured.cluster.of["detect"]
        detect.start()
        marks = await _marks(measured, turns * CAMERAS)
        assessed = await measured.until_assessed()
    tenths = [Spent.between(begin.progress, end.progress) for begin, end in pairwise(marks)]
    whole, after = Spent.between(marks[0].progress, marks[-1].progress), assessed.at - marks[-1].progress.at
    title = f"backlog of {turns * CAMERAS} photos, stub detector"
    return [
        rate_row(title, [whole], FIRST, tenths[:1], LEAST),
        rate_row("  last tenth", tenths[-1:], FIRST, tenths[:1], LEAST),
        Row("  time until recorded", f"{whole.seconds:.1f} s", "", "", "", True),
        Row("  after that, until assessed", f"{after:.1f} s", "", f"{after / whole.seconds:.2f}x", "", True),
        *cpu_rows([whole], FIRST, tenths[:1]),
        *_memory_rows(marks[1].memory, marks[-1].memory),
    ]


async def _marks(measured: MeasuredCluster, photos: int) -> list[Mark]:
    """One when the first photos are recorded, and one after each tenth of the others."""
    marks = [Mark(await measured.until_recorded(1), measured.memory())]
    first = marks[0].progress.recorded
    for tenth in range(1, TENTHS + 1):
        progress = await measured.until_recorded(first + (photos - first) * tenth // TENTHS)
        rate = Spent.between(marks[-1].progress, progress).rate
        print(f"tenth {tenth}: {rate:.1f} photos a second", file=sys.stderr)
        marks.append(Mark(progress, measured.memory()))
    return marks


def _memory_rows(early: dict[str, float], late: dict[str, float]) -> list[Row]:
    """What each service has at the end, beside what it had after the first tenth."""
    return [
        Row(
            f"  memory of {service}",
            f"{late[service]:.0f} MB",
            f"{FIRST} {size:.0f} MB",
            f"{late[service] / size:.2f}x",
            "",
            True,
        )
        for service, size in early.items()
    ]
