"""How full Triton's batches are by how many requests are in flight: what the adapter's bound rests on.

The server, its batcher and the wire are real; the model only takes its time (see paced.py): without a GPU the
measure would be of how the model and the wire get into each other's way.
"""

import asyncio
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tritonclient.grpc.aio import InferenceServerClient

from tests.bench.measure import Row
from tests.bench.served import MODEL, Served, served_paced

LEVELS = (1, 2, 4, 8, 16, 24, 32)
# For each of those in flight, so many requests one after the other.
TURNS, LEAST = 16, 64
AIM = 0.9


class Seen(NamedTuple):
    """`batch`: images in the mean batch; `rate`: answers a second."""

    batch: float
    rate: float


async def measure(folder: Path, turns: int = TURNS) -> list[Row]:
    async with served_paced(folder / "in_flight") as triton:
        assert triton.server.expected
        side = triton.server.expected.side
        pixels = np.random.default_rng(1).integers(0, 255, (side, side, 3), np.uint8).tobytes()
        async with InferenceServerClient(triton.address) as client:
            most = (await client.get_model_config(MODEL)).config.max_batch_size
            seen = {
                level: await _seen(client, triton, pixels, level, max(LEAST, turns * level))
                for level in sorted({*LEVELS, triton.limit})
            }
    best = max(one.rate for one in seen.values())
    return [_row(level, one, most, best, triton.limit) for level, one in seen.items()]


async def _seen(
    client: InferenceServerClient, triton: Served, pixels: bytes, level: int, requests: int
) -> Seen:
    """Of so many requests of `level` callers who ask again at once, while all of them ask: the first answers
    and the last ones do not count."""
    answered = 0
    marks: list[tuple[float, dict[int, int]]] = []

    async def caller() -> None:
        nonlocal answered
        while answered < level + requests:
            await triton.server.infer(pixels)
            answered += 1
            if answered in (level, level + requests):
                marks.append((time.perf_counter(), await _batches(client)))

    await asyncio.gather(*(caller() for _ in range(level)))
    (began, before), (ended, after) = marks
    runs = {size: count - before.get(size, 0) for size, count in after.items()}
    images = sum(size * count for size, count in runs.items())
    return Seen(images / sum(runs.values()), requests / (ended - began))


async def _batches(client: InferenceServerClient) -> dict[int, int]:
    """Size of a batch -> how many there were so far."""
    statistics = await client.get_inference_statistics(MODEL)
    return {one.batch_size: one.compute_infer.count for one in statistics.model_stats[0].batch_stats}


def _row(level: int, one: Seen, most: int, best: float, limit: int) -> Row:
    full, ours = one.batch / most, level == limit
    return Row(
        f"{level} in flight at Triton{' (the default)' if ours else ''}, images in a batch",
        f"{one.batch:.1f} of {most}",
        f"{one.rate:.0f}/s = {one.rate / best:.0%} of best",
        f"{full:.0%}",
        f">= {AIM:.0%}" if ours else "none, for comparison",
        full >= AIM or not ours,
    )
