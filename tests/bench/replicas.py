"""Two replicas of detect_svc, and two of store_svc, beside one.

With the stub, which takes a fixed time and no CPU, replicas of detect_svc are measured. All others share the
cores of this machine: how many were busy says whether these were the limit.
"""

import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh.topics import CAMERA_PARTITIONS, DETECTED, INGESTED
from tests.bench.announced import camera_names, contents, detected_by_stub, ingested, keep, media, tiny_photo
from tests.bench.measure import Row
from tests.bench.measured_cluster import measured_cluster
from tests.bench.spent import Spent, cpu_rows, rate_row
from tests.bench.trees import Bench
from tests.support.photos import people

# One camera for each partition; the photos of each, for each measurement.
CAMERAS = 12
STUB_TURNS, EMBEDDED_TURNS, STORE_TURNS = 80, 25, 400
WARM_TURNS = 1
STUB_SECONDS = 0.025
# A run takes half a minute, so there are fewer pairs than of other measures.
PAIRS_FOR_EACH = 3
LEAST = 1.8


@dataclass(frozen=True)
class DetectRun:
    """Photos on ingest.media.v1 until they are recorded, with the stub or, without its time, the embedded
    detector."""

    replicas: int
    turns: int
    stub_seconds: float | None = STUB_SECONDS
    stores: int = 1
    partitions: int = CAMERA_PARTITIONS

    async def __call__(self, folder: Path) -> Spent:
        counts = {"store": self.stores, "detect": self.replicas}
        samples = people() if self.stub_seconds is None else [tiny_photo(folder.with_name("tiny"))]
        async with measured_cluster(folder, counts, self.stub_seconds, self.partitions) as measured:
            kept = await keep(measured.blobs, contents(samples, WARM_TURNS + self.turns))
            records = [ingested(photo) for photo in media(camera_names(CAMERAS), kept)]
            return await measured.recording(INGESTED, records, WARM_TURNS * CAMERAS)


@dataclass(frozen=True)
class StoreRun:
    """What a detect_svc with the stub has published of photos, on detect.detections.v1, until it is
    recorded."""

    replicas: int
    turns: int

    async def __call__(self, folder: Path) -> Spent:
        async with measured_cluster(folder, {"store": self.replicas}) as measured:
            found = contents([tiny_photo(folder.with_name("tiny"))], WARM_TURNS + self.turns)
            kept = await keep(measured.blobs, found)
            by_name = {blob.sha256: content for blob, content in zip(kept, found, strict=True)}
            photos = media(camera_names(CAMERAS), kept)
            records = [await detected_by_stub(photo, by_name[photo.sha256]) for photo in photos]
            return await measured.recording(DETECTED, records, WARM_TURNS * CAMERAS)


async def measure(bench: Bench) -> list[Row]:
    stub = f"2 detect replicas, stub detector of {STUB_SECONDS * 1000:.0f} ms"
    found = await alternating(bench, {str(count): DetectRun(count, STUB_TURNS) for count in (1, 2)})
    rows = _rows(stub, found, LEAST)
    found = await alternating(
        bench, {str(count): DetectRun(count, EMBEDDED_TURNS, stub_seconds=None) for count in (1, 2)}
    )
    rows += _rows("2 detect replicas, embedded detector", found)
    found = await alternating(bench, {str(count): StoreRun(count, STORE_TURNS) for count in (1, 2)})
    return rows + _rows("2 store replicas", found)


def _rows(title: str, found: Mapping[str, list[Spent]], least: float = 0.0) -> list[Row]:
    return [
        rate_row(title, found["2"], "1 replica", found["1"], least),
        *cpu_rows(found["2"], "1 replica", found["1"]),
    ]


async def alternating(
    bench: Bench, runs: Mapping[str, Callable[[Path], Awaitable[Spent]]]
) -> dict[str, list[Spent]]:
    """What each of the runs spent, in as many rounds as there are pairs of this measure. Every second round
    is in the opposite order."""
    spent: dict[str, list[Spent]] = {name: [] for name in runs}
    rounds = max(1, bench.pairs // PAIRS_FOR_EACH)
    for number in range(rounds):
        for name in sorted(runs, reverse=number % 2 == 1):
            folder = bench.folder / name
            one = await runs[name](folder)
            shutil.rmtree(folder)
            spent[name].append(one)
            print(f"round {number + 1} of {rounds}: {runs[name]}: {one}", file=sys.stderr)
    return spent
