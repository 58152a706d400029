"""A whole Lares with a backlog of 2,000 photos of 1080p, compared with decoder and detector alone.

On a machine that does nothing else, the ratios of CPU and of time are the same. Other work affects that of
time, so only that of CPU has a limit.
"""

import asyncio
import time
from pathlib import Path
from statistics import median

import psutil

from detect_svc.detectors.factory import open_detector
from mesh.config import load_config
from tests.bench.measure import Row, Samples, cpu_by_program, cpu_seconds, milliseconds, ratios, spread
from tests.bench.photo_backlog import process_backlog, write_backlog
from tests.bench.trees import NOW, Bench, in_pairs, lares_of

PHOTOS, IN_FLIGHT = 2000, 8
AIM = 0.8
# A run takes minutes, so there are fewer pairs than of other measures.
PAIRS_FOR_EACH = 3


async def measure(bench: Bench) -> list[Row]:
    alone = list[float](), list[float]()

    async def once(tree: Path, folder: Path) -> dict[str, float]:
        files = await asyncio.to_thread(write_backlog, folder / "photos", "cam", 0, PHOTOS)
        if tree == bench.trees[NOW]:
            for figures, figure in zip(alone, await _alone(files), strict=True):
                figures.append(figure)
        async with lares_of(tree, folder / "home") as lares:
            before = sum(cpu_by_program(lares).values())
            seconds = await process_backlog(lares, folder / "photos", PHOTOS)
            cpu = sum(cpu_by_program(lares).values()) - before
            return {"seconds": seconds / PHOTOS, "cpu": cpu / PHOTOS}

    found = await in_pairs(bench, max(1, bench.pairs // PAIRS_FOR_EACH), once)
    title = f"{PHOTOS} photos of 1080p, whole pipeline"
    return [
        _row(f"{title}, CPU of one", found["cpu"], alone[1], AIM),
        _row("  time for one", found["seconds"], alone[0]),
    ]


def _row(title: str, whole: Samples, alone: list[float], least: float = 0.0) -> Row:
    share = ratios(alone, whole.now)
    before = ""
    if whole.before:
        before = f"{milliseconds(median(whole.before))}, {median(ratios(alone, whole.before)):.0%}"
    return Row(
        title,
        milliseconds(median(whole.now)),
        f"decode+detect {milliseconds(median(alone))}",
        spread(share, "{:.0%}".format),
        f">= {least:.0%}" if least else "",
        median(share) >= least,
        before,
        whole.change(),
    )


async def _alone(files: list[Path]) -> tuple[float, float]:
    """Returns the seconds, and the CPU seconds, that decoder and detector take for one photo when their
    processes never wait for work."""
    async with open_detector(load_config()) as detector:
        for file in files[:10]:
            await detector.detect(file)
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def one(file: Path) -> None:
            async with slots:
                await detector.detect(file)

        own = psutil.Process()
        tree = [own, *own.children(recursive=True)]
        cpu, began = cpu_seconds(tree), time.monotonic()
        await asyncio.gather(*(one(file) for file in files))
        return (time.monotonic() - began) / len(files), (cpu_seconds(tree) - cpu) / len(files)
