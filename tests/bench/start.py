"""The time of a start and of a stop of Lares, and its memory when it is idle."""

import asyncio
import time

import psutil

from tests.bench.measure import Row, resident_megabytes
from tests.bench.trees import Bench
from tests.support.lares import Lares

SETTLE_SECONDS = 10.0
STOP_SECONDS = 60.0


async def measure(bench: Bench) -> list[Row]:
    lares = Lares(bench.folder / "start")
    try:
        lares.start()
        await lares.ready()
        first = stop_seconds(lares)
        lares.start()
        clean = await lares.ready()
        lares.kill()
        lares.start()
        killed = await lares.ready()
        await asyncio.sleep(SETTLE_SECONDS)
        assert lares.process is not None
        sizes = resident_megabytes(psutil.Process(lares.process.pid))
        longest = max(first, stop_seconds(lares))
    finally:
        await lares.close()
    total = sum(sizes.values())
    parts = ", ".join(f"{name} {size:.0f}" for name, size in sorted(sizes.items(), key=lambda item: -item[1]))
    return [
        Row("start until ready, warm, after a clean stop", f"{clean:.1f} s", "-", "", "<= 5 s", clean <= 5),
        Row("start until ready, warm, after kill -9", f"{killed:.1f} s", "-", "", "<= 15 s", killed <= 15),
        Row("Ctrl-C until all processes have ended", f"{longest:.1f} s", "-", "", "<= 10 s", longest <= 10),
        Row(f"memory, idle ({parts})", f"{total:.0f} MB", "-", "", "<= 600 MB", total <= 600),
    ]


def stop_seconds(lares: Lares) -> float:
    """Stops Lares and returns the seconds until it and all its children have ended."""
    children = lares.children()
    began = time.monotonic()
    lares.stop()
    _, alive = psutil.wait_procs(children, timeout=STOP_SECONDS)
    assert not alive, alive
    return time.monotonic() - began
