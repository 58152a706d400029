"""`python -m tests.bench.detector_processes`: 1080p photos a second and memory, by number of processes.

The limit is the decoder and detector without a sandbox: one process for each core, each with its own files.
The best of several rounds counts, because other load on the machine only makes a round slower.
"""

import asyncio
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from detect_svc.detectors.litert import TARGET
from mesh.artifacts import efficientdet_lite0
from mesh.config import load_config
from mesh.processes.sandbox import Sandbox
from tests.support.photos import person_photo, renumbered

PHOTOS, IN_FLIGHT, ROUNDS = 16, 8, 8
# Processes, threads of each, calls sent ahead to each.
ARRANGEMENTS = [(1, 1, 2), (1, 2, 1), (1, 2, 2), (2, 1, 1), (2, 1, 2), (2, 1, 4), (2, 2, 2), (3, 1, 2)]


def main() -> None:
    config = load_config()
    model = str(efficientdet_lite0(config.cache))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{index}.jpg" for index in range(PHOTOS)]
        for index, file in enumerate(files):
            file.write_bytes(renumbered(person_photo(), index))
        limit = without_sandbox((model, 1, config.ingest_max_pixels), files)
        print(f"without sandbox, {os.cpu_count()} processes x 1 thread: {limit:.1f}/s", flush=True)
        for processes, threads, depth in ARRANGEMENTS:
            setup = (model, threads, config.ingest_max_pixels)
            asyncio.run(measure(setup, files, processes, depth, limit))


def without_sandbox(setup: tuple[str, int, int], files: list[Path]) -> float:
    """Photos a second."""
    workers, best = os.cpu_count() or 1, 0.0
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(workers + 1)
    for index in range(workers):
        arguments = (setup, files[index::workers], together)
        context.Process(target=_run_without_sandbox, args=arguments, daemon=True).start()
    for _ in range(ROUNDS):
        together.wait(60)
        began = time.perf_counter()
        together.wait(60)
        best = max(best, len(files) / (time.perf_counter() - began))
    return best


def _run_without_sandbox(setup: tuple[str, int, int], files: list[Path], together: Any) -> None:
    from detect_svc.detectors.efficientdet import load

    detect = load(*setup)
    detect(str(files[0]))
    for _ in range(ROUNDS):
        together.wait(60)
        for file in files:
            detect(str(file))
        together.wait(60)


async def measure(
    setup: tuple[str, int, int], files: list[Path], processes: int, depth: int, limit: float
) -> None:
    async with Sandbox(TARGET, setup=setup, size=processes, depth=depth) as sandbox:
        room = asyncio.Semaphore(IN_FLIGHT)

        async def one(file: Path) -> None:
            async with room:
                await sandbox.run(str(file))

        rate, spent = 0.0, time.process_time()
        for _ in range(ROUNDS):
            began = time.perf_counter()
            await asyncio.gather(*map(one, files))
            rate = max(rate, len(files) / (time.perf_counter() - began))
        own = (time.process_time() - spent) / len(files) / ROUNDS * 1000
        memory = [psutil.Process(pid).memory_full_info() for pid in sandbox.pids]
    resident, shared = (
        ", ".join(f"{getattr(one, kind) / 1e6:.0f}" for one in memory) for kind in ("rss", "pss")
    )
    print(
        f"{processes} x {setup[1]} threads, {depth} ahead: {rate:.1f}/s = {rate / limit:.0%},"
        f" parent {own:.2f} ms a photo, RSS {resident} MB, PSS {shared} MB",
        flush=True,
    )


if __name__ == "__main__":
    main()
