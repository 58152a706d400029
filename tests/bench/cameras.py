"""How cost grows with the number of cameras, while all of them together send as many photos a second.

Everything is real but the detector, a stub. The photos come into the cameras' folders, one after another and
the cameras in turn; each is an event of its own, however many cameras there are.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.announced import START, camera_names, contents, tiny_photo
from tests.bench.measure import Row
from tests.bench.measured_cluster import MeasuredCluster, measured_cluster
from tests.bench.spent import Spent, cpu_rows
from tests.bench.trees import Bench

COUNTS = {"store": 1, "detect": 1, "reason": 1, "gateway": 1, "ingest": 1}
CAMERAS = (10, 100, 1000)
PHOTOS_A_SECOND, SECONDS = 20, 60
APART_SECONDS = 600
IDLE_SECONDS = 10.0
# How many times as much CPU as with the fewest cameras a photo should use at most.
MOST = 1.5


class Level(NamedTuple):
    """What a number of cameras costs: while photos come, while nothing happens, and in memory."""

    photos: Spent
    idle: dict[str, float]
    memory: dict[str, float]


async def measure(bench: Bench) -> list[Row]:
    levels = {}
    for count in CAMERAS:
        levels[count] = await _level(bench.folder / str(count), count)
        print(f"{count} cameras: {levels[count]}", file=sys.stderr)
    fewest, *others = CAMERAS
    rows = []
    for count in others or [fewest]:
        rows += _rows(count, levels[count], f"{fewest} cameras", levels[fewest])
    return rows


def _rows(count: int, level: Level, peer: str, peers: Level) -> list[Row]:
    title = f"{count} cameras, {PHOTOS_A_SECOND} photos/s, stub detector, CPU of a photo"
    rows = cpu_rows([level.photos], peer, [peers.photos], title, MOST)
    for part, share in sorted(level.idle.items()):
        rows.append(_row(f"  idle, {part}, % of a core", share, peers.idle[part], peer, "{:.1%}".format))
    for service, size in sorted(level.memory.items()):
        rows.append(_row(f"  memory of {service}", size, peers.memory[service], peer, "{:.0f} MB".format))
    return rows


def _row(title: str, value: float, peers: float, peer: str, text: Callable[[float], str]) -> Row:
    ratio = f"{value / peers:.2f}x" if peers else ""
    return Row(title, text(value), f"{peer} {text(peers)}", ratio, "", True)


async def _level(folder: Path, count: int) -> Level:
    async with measured_cluster(folder, COUNTS) as measured:
        staged = await asyncio.to_thread(_stage, folder, count)
        first, later = staged[:count], staged[count:]
        for file, target in first:
            _put(file, measured.cluster.cameras / target)
        await measured.until_recorded(len(first))
        began = await measured.until_assessed()
        await asyncio.sleep(IDLE_SECONDS)
        rested = await measured.progress()
        await _send(measured, later)
        await measured.until_recorded(len(staged))
        ended = await measured.until_assessed()
        idle = Spent.between(began, rested)
        return Level(
            Spent.between(rested, ended),
            {part: used / idle.seconds for part, used in idle.cpu.items()},
            measured.memory(),
        )


def _stage(folder: Path, count: int) -> list[tuple[Path, str]]:
    """Writes one photo for each camera, which makes it known, and then those that are measured. Returns each
    with its place below the cameras folder, in the order in which they are to be put there."""
    staging = folder / "staging"
    staging.mkdir()
    names, staged = camera_names(count), list[tuple[Path, str]]()
    found = contents([tiny_photo(folder)], count + PHOTOS_A_SECOND * SECONDS)
    for number, content in enumerate(found):
        file, taken = staging / f"{number}.jpg", START + number // count * APART_SECONDS
        file.write_bytes(content)
        os.utime(file, (taken, taken))
        staged.append((file, f"{names[number % count]}/{number}.jpg"))
    return staged


async def _send(measured: MeasuredCluster, photos: Sequence[tuple[Path, str]]) -> None:
    """Puts the photos into their folders, PHOTOS_A_SECOND of them."""
    began = time.monotonic()
    for number, (file, target) in enumerate(photos):
        await asyncio.sleep(began + number / PHOTOS_A_SECOND - time.monotonic())
        _put(file, measured.cluster.cameras / target)


def _put(file: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    file.rename(target)
