"""One run over one set of photos, with or without kills, and what it left behind."""

import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from ingest_svc.watching.folder_walk import walk
from tests.faults.model import FlakyModel, flaky_model
from tests.faults.outcome import Outcome, pages, read_outcome
from tests.faults.requests import Request, Requester
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
    included) and while it works. The second comes once a reassessment was requested, while the model is at
    work; the time of the others is random."""

    def __init__(self, count: int, chance: random.Random) -> None:
        self.count = count
        self._chance = chance

    async def live(self, lares: Lares, index: int, requester: Requester, model: FlakyModel) -> bool:
        """Returns at the moment of the next kill; whether Lares was ready then."""
        if index % 2 == 0:
            await asyncio.sleep(self._chance.uniform(0.2, 5.0))
            assert lares.process is not None
            assert lares.process.poll() is None, f"lares ended by itself:\n{lares.tail()}"
            return False
        await lares.ready()
        if index == 1:
            await until(lambda: requester.acknowledged and model.assessing, 120, lares.tail)
        else:
            await asyncio.sleep(self._chance.uniform(0.0, 5.0))
        return True


@dataclass
class Fired:
    """How often each fault happened: kills in all, kills while Lares was ready, and kills while the model was
    at work; requests taken by the store before the last kill; attempts that failed because of the model."""

    kills: int = 0
    while_ready: int = 0
    while_assessing: int = 0
    requested_before_a_kill: int = 0
    failed_attempts: int = 0


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
    home: Path, drops: list[Drop], requests: list[Request], settings: dict[str, str], kills: Kills | None
) -> Result:
    """Drops the photos, requests the reassessments, kills as told, waits until nothing is in flight, and
    reads the outcome."""
    async with flaky_model() as model:
        settings = settings | {"LARES_REASONER_URL": model.url}
        return await _perform(home, drops, requests, settings, kills, model)


async def _perform(
    home: Path,
    drops: list[Drop],
    requests: list[Request],
    settings: dict[str, str],
    kills: Kills | None,
    model: FlakyModel,
) -> Result:
    began = time.monotonic()
    lares = Lares(home, settings)
    lares.cameras.mkdir(parents=True)
    lares.start()
    subscriber, requester = Subscriber(lares), Requester(lares, requests)
    dropping = asyncio.create_task(_drop_all(lares, drops))
    fired = Fired()
    try:
        for index in range(kills.count if kills else 0):
            assert kills is not None
            fired.while_ready += await kills.live(lares, index, requester, model)
            lares.kill()
            fired.kills += 1
            fired.while_assessing += model.assessing > 0
            fired.requested_before_a_kill = len(requester.acknowledged)
            await _gone(lares)
            lares.start()
        await lares.ready()
        await dropping
        await requester.done()
        await lares.idle()
        head = int((await lares.graphql("{ status { store { sequence } } }"))["status"]["store"]["sequence"])
        await subscriber.caught_up(head)
        outcome = await read_outcome(lares)
        originals = {file.path for file in walk(lares.cameras.resolve())}
        fired.failed_attempts = model.failed_attempts
        kept = {id: detection_ids(message) for id, message in (await read_kept(lares)).items()}
        return Result(outcome, originals, kept, subscriber.seen, head, time.monotonic() - began, fired)
    finally:
        dropping.cancel()
        await subscriber.close()
        await requester.close()
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
