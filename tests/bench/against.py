"""`python -m tests.bench.against REVISION`: compares the CPU time of this tree with that of another commit.

It runs both trees in pairs, each from a new home, so that other work on the machine affects both alike. The
order within a pair alternates. It prints the median of the ratios within the pairs with its confidence
interval of at least 95 %, by order statistics.
"""

import argparse
import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from math import comb
from pathlib import Path
from statistics import median

import httpx
import psutil

from mesh.bus import open_bus
from mesh.topics import DETECTED
from tests.bench.events import QUERY, cpu_per_request
from tests.bench.measure import cpu_seconds
from tests.bench.pipeline import program
from tests.support.lares import ROOT, Lares
from tests.support.photos import person_photo, renumbered

WARM_UP, PHOTOS, CAMERAS = 50, 300, 4
APART_SECONDS = 600  # so that each photo of the warm-up is an event of its own
SETTLED_SECONDS = 3.0
IDLE_SECONDS = 20.0
MEASURES = ("photos", "requests", "idle")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.against", description=__doc__)
    parser.add_argument("revision", help="the commit to compare with")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--only", choices=MEASURES, nargs="+", default=MEASURES)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="lares-against-") as folder,
        checkout(arguments.revision) as before,
    ):
        ratios: dict[str, list[float]] = {}
        for pair in range(arguments.pairs):
            trees = {"before": before, "now": ROOT}
            order = sorted(trees, reverse=pair % 2 == 1)
            found = {
                name: asyncio.run(measure(trees[name], Path(folder) / f"{pair}-{name}", arguments.only))
                for name in order
            }
            for name, value in found["now"].items():
                ratios.setdefault(name, []).append(value / found["before"][name])
                print(
                    f"pair {pair + 1}: {name:<34} before {found['before'][name] * 1000:6.2f} ms  now"
                    f" {value * 1000:6.2f} ms  ratio {ratios[name][-1]:.3f}",
                    flush=True,
                )
        for name, values in ratios.items():
            low, high = interval(values)
            print(f"{name:<34} median ratio {median(values):.3f}, 95 % interval {low:.3f} to {high:.3f}")


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """Checks the commit out into a temporary work tree."""
    with tempfile.TemporaryDirectory(prefix="lares-before-") as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", "-q", tree, revision], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def interval(values: list[float]) -> tuple[float, float]:
    """Returns the narrowest symmetric pair of order statistics that contains the median with 95 % confidence,
    or the whole range if there are too few values."""
    ordered, n = sorted(values), len(values)
    cut = 0
    while cut < (n - 1) // 2 and 2 * sum(comb(n, k) for k in range(cut + 2)) / 2**n <= 0.05:
        cut += 1
    return ordered[cut], ordered[n - 1 - cut]


async def measure(tree: Path, home: Path, only: Collection[str]) -> dict[str, float]:
    """Returns the CPU seconds of the process tree for one photo of a backlog, with and without the detector's
    processes; of the main process for one list request; and of the tree for a second in which nothing
    happens."""
    python_path = os.pathsep.join([str(tree), str(tree / "proto" / "gen")])
    warm_up = prepare(home.with_name(home.name + "-warm-up"), "warm", 0, WARM_UP, APART_SECONDS)
    photos = prepare(home.with_name(home.name + "-photos"), "cam", WARM_UP, PHOTOS)
    lares = Lares(home, {"PYTHONPATH": python_path}, tree=tree)
    lares.start()
    found: dict[str, float] = {}
    try:
        await lares.ready()
        await process_photos(lares, warm_up, WARM_UP)
        await lares.idle()
        await asyncio.sleep(SETTLED_SECONDS)
        if "photos" in only:
            found |= await photo_cpu(lares, photos)
        if "requests" in only:
            found["events(first: 50)"] = await request_cpu(lares)
        if "idle" in only:
            found |= await idle_cpu(lares)
        return found
    finally:
        await lares.close()


async def photo_cpu(lares: Lares, photos: Path) -> dict[str, float]:
    before = _cpu(lares)
    await process_photos(lares, photos, PHOTOS)
    after = _cpu(lares)
    spent = {name: (after[name] - before.get(name, 0.0)) / PHOTOS for name in after}
    await lares.idle()
    return {
        "a photo": sum(spent.values()),
        "a photo, without the detector": sum(spent.values()) - spent["detector"],
        **{f"a photo, {name}": spent[name] for name in ("lares", "java", "postgres")},
    }


async def request_cpu(lares: Lares) -> float:
    assert lares.process is not None
    process = psutil.Process(lares.process.pid)
    async with httpx.AsyncClient(
        base_url=f"http://{lares.http}", headers={"x-api-key": lares.key}, timeout=30
    ) as client:
        return await cpu_per_request(process, client, "POST", "/graphql", {"query": QUERY})


async def idle_cpu(lares: Lares) -> dict[str, float]:
    await asyncio.sleep(SETTLED_SECONDS)
    before, began = _cpu(lares), time.monotonic()
    await asyncio.sleep(IDLE_SECONDS)
    after, seconds = _cpu(lares), time.monotonic() - began
    spent = {name: (after[name] - before.get(name, 0.0)) / seconds for name in after}
    return {
        "a second idle": sum(spent.values()),
        **{f"a second idle, {name}": spent[name] for name in ("lares", "java", "postgres")},
    }


def prepare(staging: Path, camera: str, first: int, count: int, apart: float = 0.0) -> Path:
    """Writes different photos of 1080p with a person, numbered from `first`, in one folder for each camera.
    Their capture times are `apart` seconds from each other."""
    now = time.time()
    for number in range(first, first + count):
        folder = staging / f"{camera}-{number % CAMERAS}"
        folder.mkdir(parents=True, exist_ok=True)
        photo = folder / f"{number:04}.jpg"
        photo.write_bytes(renumbered(person_photo(), number))
        taken = now - (first + count - number) * apart
        os.utime(photo, (taken, taken))
    return staging


async def process_photos(lares: Lares, staging: Path, count: int) -> None:
    """Moves all photos into the cameras' folders and waits until the store has recorded the last one."""
    query = "{ status { store { detectionsLag } } }"
    async with (
        open_bus(lares.admin_kafka_url, client_id="bench") as bus,
        bus.tail(DETECTED, start="end") as tail,
    ):
        for folder in sorted(staging.iterdir()):
            folder.rename(lares.cameras / folder.name)
        seen = 0
        async for _ in tail:
            seen += 1
            if seen == count:
                break
    while (await lares.graphql(query))["status"]["store"]["detectionsLag"]:
        await asyncio.sleep(0.05)


def _cpu(lares: Lares) -> dict[str, float]:
    """Returns the CPU seconds used so far, by program."""
    assert lares.process is not None
    used: dict[str, float] = {}
    for process in [psutil.Process(lares.process.pid), *lares.children()]:
        try:
            name = program(process)
            used[name] = used.get(name, 0.0) + cpu_seconds([process])
        except psutil.NoSuchProcess:
            continue
    return used


if __name__ == "__main__":
    main()
