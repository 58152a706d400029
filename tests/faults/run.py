"""One run over one set of photos, with or without kills, and what it left behind."""

import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from ingest_svc.tree import walk
from tests.faults.asking import Ask, Asking
from tests.faults.model import FitfulModel, fitful_model
from tests.faults.outcome import Outcome, pages, read_outcome
from tests.faults.scenario import LONG_CAMERA, Drop
from tests.faults.subscriber import Subscriber
from tests.support.kept import detection_ids, read_kept
from tests.support.lares import Lares, Refused
from tests.support.waiting import until

STORED = """query($after: String, $cameras: [ID!]) {
  mediaList(first: 200, after: $after, cameraIds: $cameras) {
    edges { node { capturedAt } } pageInfo { hasNextPage endCursor } } }"""


class Kills:
    """kill -9 of the whole of Lares, `count` times: by turns in the middle of its start (the very first one
    included) and while it works. The second comes while a reassessment waits and the model has a judgement in
    hand; from then on chance decides."""

    def __init__(self, count: int, chance: random.Random) -> None:
        self.count = count
        self._chance = chance

    async def live(self, lares: Lares, index: int, asking: Asking, model: FitfulModel) -> bool:
        """Returns at the moment of the next kill; whether Lares was ready then."""
        if index % 2 == 0:
            await asyncio.sleep(self._chance.uniform(0.2, 5.0))
            assert lares.process is not None
            assert lares.process.poll() is None, f"lares ended by itself:\n{lares.tail()}"
            return False
        await lares.ready()
        if index == 1:
            await until(lambda: asking.acknowledged and model.judging, 120, lares.tail)
        else:
            await asyncio.sleep(self._chance.uniform(0.0, 5.0))
        return True


@dataclass
class Fired:
    """The faults that happened: kills, those of them while Lares was ready, those while the model had a
    judgement in hand; requests that the store had taken before the last kill; attempts that the model
    spoilt."""

    kills: int = 0
    while_ready: int = 0
    while_judging: int = 0
    asked_before_a_kill: int = 0
    spoilt: int = 0


@dataclass(frozen=True)
class Result:
    """`originals`: the paths that lie in the cameras folder at the end; `kept`: the detections of each media
    on store.kept.v1."""

    outcome: Outcome
    originals: set[str]
    kept: dict[str, set[str]]
    sequences: list[int]
    head: int
    seconds: float
    fired: Fired


async def perform(
    home: Path, drops: list[Drop], asks: list[Ask], settings: dict[str, str], kills: Kills | None
) -> Result:
    """Drops the photos and asks for reassessments, kills as told, waits until all is quiet, reads
    everything."""
    async with fitful_model() as model:
        return await _perform(home, drops, asks, settings | {"LARES_REASONER_URL": model.url}, kills, model)


async def _perform(
    home: Path,
    drops: list[Drop],
    asks: list[Ask],
    settings: dict[str, str],
    kills: Kills | None,
    model: FitfulModel,
) -> Result:
    began = time.monotonic()
    lares = Lares(home, settings)
    lares.cameras.mkdir(parents=True)
    lares.start()
    subscriber, asking = Subscriber(lares), Asking(lares, asks)
    dropping = asyncio.create_task(_drop_all(lares, drops))
    fired = Fired()
    try:
        for index in range(kills.count if kills else 0):
            assert kills is not None
            fired.while_ready += await kills.live(lares, index, asking, model)
            lares.kill()
            fired.kills += 1
            fired.while_judging += model.judging > 0
            fired.asked_before_a_kill = len(asking.acknowledged)
            await _gone(lares)
            lares.start()
        await lares.ready()
        await dropping
        await asking.done()
        await lares.idle()
        head = int((await lares.graphql("{ status { store { sequence } } }"))["status"]["store"]["sequence"])
        await subscriber.caught_up(head)
        outcome = await read_outcome(lares)
        originals = {file.path for file in walk(lares.cameras.resolve())}
        fired.spoilt = model.failed
        kept = {id: detection_ids(message) for id, message in (await read_kept(lares)).items()}
        return Result(outcome, originals, kept, subscriber.seen, head, time.monotonic() - began, fired)
    finally:
        dropping.cancel()
        await subscriber.close()
        await asking.close()
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
