"""CPU time of a whole Lares: for a photo of a backlog, for requests, and while nothing happens."""

import asyncio
import time
from pathlib import Path

import httpx
import psutil

from tests.bench.events import LIMIT, compare_with_peer, cpu_per_request
from tests.bench.measure import Row, Samples, cpu_by_program, milliseconds
from tests.bench.photo_backlog import process_backlog, write_backlog
from tests.bench.trees import Bench, in_pairs, lares_of
from tests.support.lares import Lares

WARM_UP, PHOTOS = 50, 500
APART_SECONDS = 600  # so that each photo of the warm-up is an event of its own
SETTLED_SECONDS = 3.0
IDLE_SECONDS = 20.0
HELLO = "{ __typename }"
PROGRAMS = ("lares", "java", "postgres")


async def measure(bench: Bench) -> list[Row]:
    async def once(tree: Path, folder: Path) -> dict[str, float]:
        return await _run(tree, folder, bench.wanted)

    return _rows(await in_pairs(bench, bench.pairs, once))


def _rows(found: dict[str, Samples]) -> list[Row]:
    rows = []
    if "photo" in found:
        title = f"a photo of a backlog of {PHOTOS}, CPU beside the detector's"
        rows.append(found["photo"].row(title, milliseconds, 0.004))
        rows += [found[f"photo, {name}"].row(f"  of that {name}", milliseconds) for name in PROGRAMS]
        # What Lares does anyway, by the second, is part of the CPU.
        rows.append(found["photo, seconds"].row("  time for one", milliseconds))
    if "hello" in found:
        rows.append(found["hello"].row(f"hello ({HELLO} by GraphQL), CPU", milliseconds, 0.00035))
    if "events" in found:
        peer, title = found["events, peer"], "events(first: 50) with 8 fields, CPU"
        rows.append(found["events"].row_beside(peer, title, "FastAPI, ORM", milliseconds, LIMIT))
        rows.append(found["events, PostgreSQL"].row("  PostgreSQL for it", milliseconds))
        rows.append(found["events, peer's PostgreSQL"].row("  PostgreSQL for the peer", milliseconds))
    if "idle" in found:
        rows.append(found["idle"].row("idle, whole tree, % of a core", "{:.1%}".format, 0.05))
        rows += [found[f"idle, {name}"].row(f"  of that {name}", "{:.1%}".format) for name in PROGRAMS]
    return rows


async def _run(tree: Path, folder: Path, wanted: frozenset[str]) -> dict[str, float]:
    """Returns CPU seconds by figure: for a photo of a backlog, without those of the detector's processes; of
    the main process for a request; of all processes for a second in which nothing happens."""
    write_backlog(folder / "warm-up", "warm", 0, WARM_UP, APART_SECONDS)
    if "photos" in wanted:
        write_backlog(folder / "photos", "cam", WARM_UP, PHOTOS)
    found: dict[str, float] = {}
    async with lares_of(tree, folder / "home") as lares:
        await process_backlog(lares, folder / "warm-up", WARM_UP)
        await lares.idle()
        await asyncio.sleep(SETTLED_SECONDS)
        if "photos" in wanted:
            found |= await _photo_cpu(lares, folder / "photos")
        if "hello" in wanted:
            found["hello"] = await _hello_cpu(lares)
        if "events" in wanted:
            compared = await compare_with_peer(lares)
            found["events"], found["events, peer"] = compared.lares, compared.peer
            found["events, PostgreSQL"] = compared.database
            found["events, peer's PostgreSQL"] = compared.peers_database
        if "idle" in wanted:
            found |= await _idle_cpu(lares)
    return found


async def _photo_cpu(lares: Lares, photos: Path) -> dict[str, float]:
    before = cpu_by_program(lares)
    seconds = await process_backlog(lares, photos, PHOTOS)
    after = cpu_by_program(lares)
    spent = {name: (after[name] - before.get(name, 0.0)) / PHOTOS for name in after}
    await lares.idle()
    return {
        "photo": sum(spent.values()) - spent["detector"],
        **{f"photo, {name}": spent[name] for name in PROGRAMS},
        "photo, detector": spent["detector"],
        "photo, seconds": seconds / PHOTOS,
    }


async def _hello_cpu(lares: Lares) -> float:
    assert lares.process is not None
    process = psutil.Process(lares.process.pid)
    async with httpx.AsyncClient(
        base_url=lares.url(), headers={"x-api-key": lares.key}, timeout=30
    ) as client:
        return await cpu_per_request(process, client, "POST", "/graphql", {"query": HELLO})


async def _idle_cpu(lares: Lares) -> dict[str, float]:
    await asyncio.sleep(SETTLED_SECONDS)
    before, began = cpu_by_program(lares), time.monotonic()
    await asyncio.sleep(IDLE_SECONDS)
    after, seconds = cpu_by_program(lares), time.monotonic() - began
    spent = {name: (after[name] - before.get(name, 0.0)) / seconds for name in after}
    return {"idle": sum(spent.values()), **{f"idle, {name}": spent[name] for name in PROGRAMS}}
