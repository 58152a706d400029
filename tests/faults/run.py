"""One run over one set of photos, with or without kills, and what it left behind."""

import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from ingest_svc.tree import walk
from tests.faults.outcome import Outcome, pages, read_outcome
from tests.faults.scenario import LONG_CAMERA, Drop
from tests.faults.subscriber import Subscriber
from tests.support.lares import Lares, Refused

STORED = """query($after: String, $cameras: [ID!]) {
  mediaList(first: 200, after: $after, cameraIds: $cameras) {
    edges { node { capturedAt } } pageInfo { hasNextPage endCursor } } }"""


@dataclass
class Kills:
    """kill -9 of the whole of Lares, `count` times: by turns in the middle of its start (the very first one
    included) and while it works."""

    count: int
    chance: random.Random

    async def live(self, lares: Lares, index: int) -> bool:
        """Returns at the moment of the next kill; whether Lares was ready then."""
        if index % 2 == 0:
            await asyncio.sleep(self.chance.uniform(0.2, 5.0))
            assert lares.process is not None
            assert lares.process.poll() is None, f"lares ended by itself:\n{lares.tail()}"
            return False
        await lares.ready()
        await asyncio.sleep(self.chance.uniform(0.0, 5.0))
        return True


@dataclass(frozen=True)
class Result:
    """`originals`: the paths that lie in the cameras folder at the end."""

    outcome: Outcome
    originals: set[str]
    sequences: list[int]
    head: int
    seconds: float
    killed: int
    killed_while_ready: int


async def perform(home: Path, drops: list[Drop], settings: dict[str, str], kills: Kills | None) -> Result:
    """Drops the photos, kills as told, waits until all is quiet, reads everything."""
    began = time.monotonic()
    lares = Lares(home, settings)
    lares.cameras.mkdir(parents=True)
    lares.start()
    subscriber = Subscriber(lares)
    dropping = asyncio.create_task(_drop_all(lares, drops))
    ready = 0
    try:
        for index in range(kills.count if kills else 0):
            assert kills is not None
            ready += await kills.live(lares, index)
            lares.kill()
            await _gone(lares)
            lares.start()
        await lares.ready()
        await dropping
        await lares.idle()
        head = int((await lares.graphql("{ status { store { sequence } } }"))["status"]["store"]["sequence"])
        await subscriber.caught_up(head)
        outcome = await read_outcome(lares)
        originals = {file.path for file in walk(lares.cameras.resolve())}
        killed = kills.count if kills else 0
        return Result(outcome, originals, subscriber.seen, head, time.monotonic() - began, killed, ready)
    finally:
        dropping.cancel()
        await subscriber.close()
        await asyncio.gather(dropping, return_exceptions=True)
        await lares.close()


async def _gone(lares: Lares) -> None:
    """No child of the killed parent is left; its home is known from the command lines."""
    deadline = time.monotonic() + 90
    while True:
        left = []
        for process in psutil.process_iter(["pid", "cmdline"]):
            if any(str(lares.home) in part for part in process.info["cmdline"] or []):
                left.append(process.info)
        if not left:
            return
        assert time.monotonic() < deadline, f"left behind: {left}"
        await asyncio.sleep(0.05)


async def _drop_all(lares: Lares, drops: list[Drop]) -> None:
    """The long camera's photos in their order, its late ones alone; the other cameras' meanwhile."""
    own = [drop for drop in drops if drop.camera == LONG_CAMERA]
    others = [drop for drop in drops if drop.camera != LONG_CAMERA]

    async def steadily() -> None:
        for drop in others:
            await asyncio.to_thread(drop.put, lares.cameras)
            await asyncio.sleep(0.3)

    async def in_order() -> None:
        for done, drop in enumerate(own):
            after_late = done > 0 and own[done - 1].late
            if drop.late or after_late:
                await _stored(lares, done)
            await asyncio.to_thread(drop.put, lares.cameras)
            await asyncio.sleep(0.15)

    await asyncio.gather(steadily(), in_order())


async def _stored(lares: Lares, count: int) -> None:
    """Waits, through all kills, until so many photos of the long camera are in the store."""
    while True:
        try:
            if len(await pages(lares, STORED, "mediaList", cameras=[LONG_CAMERA])) >= count:
                return
        except (httpx.TransportError, FileNotFoundError):
            pass  # killed in the middle of the question
        except Refused as refused:
            if refused.codes - {"UNAVAILABLE"}:
                raise
        await asyncio.sleep(0.2)
