"""`python -m tests.bench.detector_processes`: photos of 1080p a second and memory, by arrangement.

The limit is decoder and detector alone: as many processes as there are cores, each on its own files, with no
sandbox between.
"""

import asyncio
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import psutil

from detect_svc.litert import TARGET
from mesh.artifacts import efficientdet_lite0
from mesh.config import load_config
from mesh.sandbox import Sandbox
from tests.support.photos import person_photo, renumbered

PHOTOS, IN_FLIGHT = 100, 8
# processes, threads in each, calls sent ahead to each
ARRANGEMENTS = [(1, 1, 2), (1, 2, 1), (1, 2, 2), (2, 1, 1), (2, 1, 2), (2, 1, 4), (2, 2, 2), (3, 1, 2)]


def main() -> None:
    config = load_config()
    setup = [str(efficientdet_lite0(config.cache)), 1, config.ingest_max_pixels]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{index}.jpg" for index in range(PHOTOS)]
        for index, file in enumerate(files):
            file.write_bytes(renumbered(person_photo(), index))
        limit = alone(setup, files)
        print(f"alone, {os.cpu_count()} processes x 1 thread: {limit:.1f}/s")
        for processes, threads, depth in ARRANGEMENTS:
            setup[1] = threads
            asyncio.run(measure(setup, files, processes, depth, limit))


def alone(setup: list[object], files: list[Path]) -> float:
    """Photos a second."""
    workers = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(workers + 1)
    shares = [files[index::workers] for index in range(workers)]
    processes = [context.Process(target=_alone, args=(setup, share, ready)) for share in shares]
    for process in processes:
        process.start()
    ready.wait(60)
    began = time.perf_counter()
    for process in processes:
        process.join()
    return len(files) / (time.perf_counter() - began)


def _alone(setup: list[object], files: list[Path], ready: "multiprocessing.synchronize.Barrier") -> None:
    from detect_svc.efficientdet import load

    detect = load(*setup)  # type: ignore[arg-type]
    detect(str(files[0]))
    ready.wait(60)
    for file in files:
        detect(str(file))


async def measure(setup: list[object], files: list[Path], processes: int, depth: int, limit: float) -> None:
    async with Sandbox(TARGET, setup=setup, size=processes, depth=depth) as sandbox:
        room = asyncio.Semaphore(IN_FLIGHT)

        async def one(file: Path) -> None:
            async with room:
                await sandbox.run(str(file))

        await asyncio.gather(*map(one, files[:10]))
        began, spent = time.perf_counter(), time.process_time()
        await asyncio.gather(*map(one, files))
        rate = len(files) / (time.perf_counter() - began)
        own = (time.process_time() - spent) / len(files) * 1000
        memory = [psutil.Process(pid).memory_full_info() for pid in sandbox.pids]
    resident, shared = (
        ", ".join(f"{getattr(one, kind) / 1e6:.0f}" for one in memory) for kind in ("rss", "pss")
    )
    print(
        f"{processes} x {setup[1]} threads, {depth} ahead: {rate:.1f}/s = {rate / limit:.0%},"
        f" parent {own:.2f} ms a photo, RSS {resident} MB, PSS {shared} MB"
    )


if __name__ == "__main__":
    main()
