"""The size of Triton's batches by the number of requests in flight, which the adapter's limit is based on.

The server, its batcher and the transport are real. The model only sleeps (see paced.py): without a GPU a real
one would compete with the transport for the cores.
"""

import asyncio
import time
from typing import NamedTuple

import numpy as np
from tritonclient.grpc.aio import InferenceServerClient

from tests.bench.measure import Row
from tests.bench.served import MODEL, ServedModel, served_paced
from tests.bench.trees import Bench

LEVELS = (1, 2, 4, 8, 16, 24, 32)
# Requests of each caller, one after another.
TURNS, LEAST = 16, 64
AIM = 0.9


class Throughput(NamedTuple):
    """`batch` is the mean number of images in a batch, `rate` the answers a second."""

    batch: float
    rate: float


async def measure(bench: Bench) -> list[Row]:
    async with served_paced(bench.folder / "in_flight") as triton:
        assert triton.client.expected
        side = triton.client.expected.side
        pixels = np.random.default_rng(1).integers(0, 255, (side, side, 3), np.uint8).tobytes()
        async with InferenceServerClient(triton.address) as client:
            most = (await client.get_model_config(MODEL)).config.max_batch_size
            throughputs = {
                level: await _throughput(client, triton, pixels, level, max(LEAST, TURNS * level))
                for level in sorted({*LEVELS, triton.limit})
            }
    best = max(one.rate for one in throughputs.values())
    return [_row(level, one, most, best, triton.limit) for level, one in throughputs.items()]


async def _throughput(
    client: InferenceServerClient, triton: ServedModel, pixels: bytes, level: int, requests: int
) -> Throughput:
    """Measures while `level` callers send one request after another. The first and the last answers, when not
    all callers are busy, do not count."""
    answered = 0
    marks: list[tuple[float, dict[int, int]]] = []

    async def caller() -> None:
        nonlocal answered
        while answered < level + requests:
            await triton.client.infer(pixels)
            answered += 1
            if answered in (level, level + requests):
                marks.append((time.perf_counter(), await _batches(client)))

    await asyncio.gather(*(caller() for _ in range(level)))
    (began, before), (ended, after) = marks
    runs = {size: count - before.get(size, 0) for size, count in after.items()}
    images = sum(size * count for size, count in runs.items())
    return Throughput(images / sum(runs.values()), requests / (ended - began))


async def _batches(client: InferenceServerClient) -> dict[int, int]:
    """The number of batches so far, by size."""
    statistics = await client.get_inference_statistics(MODEL)
    return {one.batch_size: one.compute_infer.count for one in statistics.model_stats[0].batch_stats}


def _row(level: int, one: Throughput, most: int, best: float, limit: int) -> Row:
    full, is_default = one.batch / most, level == limit
    return Row(
        f"{level} in flight at Triton{' (the default)' if is_default else ''}, images in a batch",
        f"{one.batch:.1f} of {most}",
        f"{one.rate:.0f}/s = {one.rate / best:.0%} of best",
        f"{full:.0%}",
        f">= {AIM:.0%}" if is_default else "",
        full >= AIM or not is_default,
    )
