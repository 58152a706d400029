"""Throughput against the partitions of the cameras' topics: a partition is read by one replica."""

from mesh.topics import CAMERA_PARTITIONS
from tests.bench.measure import Row
from tests.bench.replicas import LEAST, DetectRun, alternating
from tests.bench.spent import cpu_rows, rate_row
from tests.bench.trees import Bench

PARTITIONS = (1, 4, CAMERA_PARTITIONS)
TURNS = 80
ONE = "1 partition"


async def measure(bench: Bench) -> list[Row]:
    """With two replicas of detect_svc and of store_svc each, and the stub detector, which takes STUB_SECONDS
    for a photo."""
    runs = {f"{count:02} partitions": DetectRun(2, TURNS, stores=2, partitions=count) for count in PARTITIONS}
    found = await alternating(bench, runs)
    first, *others = found.values()
    rows = []
    for count, spent in zip(PARTITIONS[1:], others, strict=True):
        title = f"{count} partitions, 2 replicas, stub detector"
        rows += [rate_row(title, spent, ONE, first, LEAST), *cpu_rows(spent, ONE, first)]
    return rows
