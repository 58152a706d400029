"""Photos a second through the Triton adapter and a real Triton, against ONNX Runtime alone on the same graph.

Both have the same number of threads for the model. Without a GPU, transport and model share the cores, so the
ratio is pessimistic if the model uses all cores, and fair if it leaves one. Rounds alternate and the median
of their ratios counts, because other load on the machine affects both. The ratio of CPU time hardly depends
on it.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from detect_svc.detectors.factory import open_detector
from detect_svc.detectors.rtdetr_input import square_input
from detect_svc.detectors.server_pool import ServerPool
from mesh.config import load_config
from tests.bench.measure import Row, cpu_seconds
from tests.bench.served import MODEL, SECONDS, Images, heavy_graph, name_of, onnx_runtime_alone, served_graph
from tests.bench.trees import Bench
from tests.support.photos import person_photo, renumbered

PHOTOS, ROUNDS = 16, 3
AIM = 0.95

Round = Callable[[], Awaitable[object]]


class Spent(NamedTuple):
    """Wall-clock time, and CPU time of this process and its children."""

    seconds: float
    cpu: float


async def measure(bench: Bench) -> list[Row]:
    graph = await asyncio.to_thread(heavy_graph, load_config().cache)
    files = [bench.folder / f"{index}.jpg" for index in range(PHOTOS)]
    for index, file in enumerate(files):
        file.write_bytes(renumbered(person_photo(), index))
    rows = []
    cores = os.cpu_count() or 1
    for threads in sorted({max(1, cores - 1), cores}):
        rows += await _measure(bench.folder / f"triton-{threads}", graph, threads, files)
    return rows


async def _measure(folder: Path, graph: Path, threads: int, files: list[Path]) -> list[Row]:
    run, side = onnx_runtime_alone(graph, threads)
    most = load_config().ingest_max_pixels
    squares = [square_input(file.read_bytes(), side, most)[0] for file in files]
    size = _best_batch(run, np.stack(squares))

    async def raw() -> None:
        await asyncio.to_thread(_run, run, squares, size)

    async def raw_from_files() -> None:
        await asyncio.to_thread(_run_files, run, files, side, size)

    async with served_graph(folder, graph, threads) as triton:
        pool = ServerPool([triton.client], SECONDS)

        async def infer() -> None:
            await asyncio.gather(*(pool.infer(one.tobytes()) for one in squares))

        async with pool.running():
            decoded = await _rounds(raw, infer)
        url = f"triton://{triton.address}/{MODEL}"
        async with open_detector(load_config(detector_url=url, detect_seconds=SECONDS)) as detector:

            async def detected() -> None:
                await asyncio.gather(*map(detector.detect, files))

            from_files = await _rounds(raw_from_files, detected)
    title = f"Triton, {name_of(graph)}, {threads} thread{'s' if threads > 1 else ''} for the model"
    return [
        _row(f"{title}: decoded photos", decoded, len(files), f"ONNX Runtime, batch {size},"),
        _row(f"{title}: from JPEGs of 1080p", from_files, len(files), "decode + ONNX Runtime"),
    ]


def _best_batch(run: Callable[[Images], object], images: Images) -> int:
    """The batch size at which ONNX Runtime alone is fastest. Triton forms its own batches."""

    def seconds(size: int) -> float:
        began = time.perf_counter()
        for at in range(0, 8, size):
            run(images[at : at + size])
        return time.perf_counter() - began

    sizes = (1, 4, 8)
    for size in sizes:
        run(images[:size])
    return min(sizes, key=lambda size: min(seconds(size) for _ in range(2)))


def _run(run: Callable[[Images], object], squares: list[Images], size: int) -> None:
    for at in range(0, len(squares), size):
        run(np.stack(squares[at : at + size]))


def _run_files(run: Callable[[Images], object], files: list[Path], side: int, size: int) -> None:
    """Decodes in a second thread."""
    most = load_config().ingest_max_pixels
    with ThreadPoolExecutor(1) as decoding:
        ahead = [decoding.submit(square_input, str(file), side, most) for file in files]
        for at in range(0, len(ahead), size):
            run(np.stack([each.result()[0] for each in ahead[at : at + size]]))


async def _rounds(raw: Round, lares: Round) -> list[tuple[Spent, Spent]]:
    """Runs both alternately, after one round of each to warm up."""
    spent: list[tuple[Spent, Spent]] = []
    for _ in range(ROUNDS + 1):
        spent.append((await _spent(raw), await _spent(lares)))
    return spent[1:]


async def _spent(work: Round) -> Spent:
    own = psutil.Process()
    tree = [own, *own.children(recursive=True)]
    cpu, began = cpu_seconds(tree), time.perf_counter()
    await work()
    return Spent(time.perf_counter() - began, cpu_seconds(tree) - cpu)


def _row(title: str, rounds: list[tuple[Spent, Spent]], photos: int, against: str) -> Row:
    ratio = statistics.median(raw.seconds / lares.seconds for raw, lares in rounds)
    share = statistics.median(raw.cpu / lares.cpu for raw, lares in rounds)
    raw, lares = (photos / min(one.seconds for one in side) for side in zip(*rounds, strict=True))
    aim = f">= {AIM:.0%}"
    return Row(
        f"{title} (CPU {share:.0%})",
        f"{lares:.1f}/s",
        f"{against} {raw:.1f}/s",
        f"{ratio:.0%}",
        aim,
        ratio >= AIM,
    )
