"""The time that a cluster needs for a large backlog of photos. A stub that takes no time is in place of the
detector, and everything else is real, so this is what the parts beside the detector can do. The last tenth
beside the first one says whether it slows down.

The photos are on the log already when detect_svc starts, as after it was away.
"""

import sys
from itertools import pairwise

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


async def measure(bench: Bench) -> list[Row]:
    turns = max(1, round(bench.photos / CAMERAS))
    async with measured_cluster(bench.folder / "drain", COUNTS, later=["detect"]) as measured:
        kept = await keep(measured.blobs, contents([tiny_photo(bench.folder)], turns))
        await measured.publish(INGESTED, map(ingested, media(camera_names(CAMERAS), kept)))
        (detect,) = measured.cluster.of["detect"]
        detect.start()
        marks = await _marks(measured, turns * CAMERAS)
        assessed = await measured.until_assessed()
        memory = measured.memory()
    tenths = [Spent.between(begin, end) for begin, end in pairwise(marks)]
    whole = Spent.between(marks[0], marks[-1])
    title = f"backlog of {turns * CAMERAS} photos, stub detector"
    return [
        rate_row(title, [whole], FIRST, tenths[:1]),
        rate_row("  last tenth", tenths[-1:], FIRST, tenths[:1], LEAST),
        _seconds_row("  time until recorded", whole.seconds),
        _seconds_row("  after that, until assessed", assessed.at - marks[-1].at),
        *cpu_rows([whole], FIRST, tenths[:1]),
        *(Row(f"  memory of {name}", f"{size:.0f} MB", "", "", "", True) for name, size in memory.items()),
    ]


async def _marks(measured: MeasuredCluster, photos: int) -> list[Progress]:
    """The progress when the first photos are recorded, and after each tenth of the others."""
    marks = [await measured.until_recorded(1)]
    first = marks[0].recorded
    for tenth in range(1, TENTHS + 1):
        marks.append(await measured.until_recorded(first + (photos - first) * tenth // TENTHS))
        print(f"tenth {tenth}: {Spent.between(*marks[-2:]).rate:.1f} photos a second", file=sys.stderr)
    return marks


def _seconds_row(title: str, seconds: float) -> Row:
    return Row(title, f"{seconds:.1f} s", "", "", "", True)
