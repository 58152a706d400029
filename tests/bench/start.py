"""From `lares up` to ready, warm; from Ctrl-C to nothing left; and what the idle tree keeps in memory."""

import asyncio
import time
from pathlib import Path

import psutil

from tests.bench.measure import Row, resident_megabytes
from tests.support.lares import Lares

SETTLE_SECONDS = 10.0
PATIENCE_SECONDS = 60.0


async def measure(folder: Path) -> list[Row]:
    lares = Lares(folder / "start")
    try:
        lares.start()
        await lares.ready()
        first = stopped(lares)
        lares.start()
        clean = await lares.ready()
        lares.kill()
        lares.start()
        killed = await lares.ready()
        await asyncio.sleep(SETTLE_SECONDS)
        assert lares.process is not None
        sizes = resident_megabytes(psutil.Process(lares.process.pid))
        longest = max(first, stopped(lares))
    finally:
        await lares.close()
    total = sum(sizes.values())
    parts = ", ".join(f"{name} {size:.0f}" for name, size in sorted(sizes.items(), key=lambda item: -item[1]))
    return [
        Row("start to ready, warm, after a clean stop", f"{clean:.1f} s", "-", "", "<= 5 s", clean <= 5),
        Row("start to ready, warm, after kill -9", f"{killed:.1f} s", "-", "", "<= 15 s", killed <= 15),
        Row("Ctrl-C to the end of all its processes", f"{longest:.1f} s", "-", "", "<= 10 s", longest <= 10),
        Row(f"resident, idle ({parts})", f"{total:.0f} MB", "-", "", "<= 600 MB", total <= 600),
    ]


def stopped(lares: Lares) -> float:
    """Seconds from Ctrl-C until neither Lares nor a child of it is left."""
    children = lares.children()
    began = time.monotonic()
    lares.stop()
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_SECONDS)
    assert not alive, alive
    return time.monotonic() - began
