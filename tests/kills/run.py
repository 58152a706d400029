"""One run of Lares over a set of photos and clips, with or without kills, and its result."""

import asyncio
import random
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import psutil

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.watching.folder_walk import walk
from ingest_svc.watching.ignored_names import IgnoredNames
from tests.kills.amendments import Amender
from tests.kills.flaky_model import FlakyModel, flaky_model
from tests.kills.household import AMENDED, PERSON_ID, Household
from tests.kills.outcome import Outcome, pages, read_outcome
from tests.kills.persistent_calls import persist
from tests.kills.reassessments import Request, Requester
from tests.kills.renditions import RenditionRequester
from tests.kills.scenario import CLIP_CAMERA, DRIVE_CAMERA, GATE_CAMERA, LONG_CAMERA, PORCH_CAMERA, Drop
from tests.kills.subscriber import Subscriber
from tests.kills.uploads import upload
from tests.support.kept import detection_ids, read_kept
from tests.support.lares import Lares, Refused
from tests.support.waiting import until

STORED = """query($after: String, $cameras: [ID!]) {
  mediaList(first: 200, after: $after, cameraIds: $cameras) {
    edges { node { capturedAt } } pageInfo { hasNextPage endCursor } } }"""


# For each kill photos arrive for so long: it takes about six seconds with the start after it, more on a busy
# machine.
KILL_SECONDS = 6.0
# Habits and the vehicles that stand there depend on the order of the log. After a restart a live photo waits
# only 1.5 s for those that are found then, so on a busy machine it could come before them, in some runs.
ORDERED = (DRIVE_CAMERA, GATE_CAMERA, CLIP_CAMERA)
# The kill, counted from 0, that happens while a rendition is waited for.
RENDERING = 3


class Kills:
    """Kills all of Lares `count` times with kill -9, alternately during its start and while it works.

    The first kill interrupts the very first start. The second one happens after a reassessment was requested
    and while the model works, the fourth one while a rendition is waited for. The times of the others are
    random.
    """

    def __init__(self, count: int, chance: random.Random) -> None:
        self.count = count
        self._chance = chance

    async def wait_for_next(
        self,
        lares: Lares,
        index: int,
        requester: Requester,
        renditions: RenditionRequester,
        model: FlakyModel,
    ) -> bool:
        """Waits until the next kill is due. Returns whether Lares is ready."""
        if index % 2 == 0:
            await asyncio.sleep(self._chance.uniform(0.2, 5.0))
            assert lares.process is not None
            assert lares.process.poll() is None, f"Lares exited on its own:\n{lares.tail()}"
            return False
        await lares.ready()
        if index == 1:
            await until(lambda: requester.acknowledged and model.assessing, 120, lares.tail)
        elif index == RENDERING:
            renditions.begin()
            await until(lambda: renditions.is_waiting, 120, lares.tail)
            await asyncio.sleep(self._chance.uniform(0.0, 0.5))
        else:
            await asyncio.sleep(self._chance.uniform(0.0, 5.0))
        return True


@dataclass
class FaultCounts:
    """How often each fault happened.

    `kills` counts all kills, `while_ready` those while Lares was ready, `while_assessing` those while the
    model worked, `while_arriving` those before the last photo was dropped, `while_amending` those between
    the first amendment and the last, and `while_rendering` those while a rendition was waited for.
    `requested_before_a_kill` counts the requests that the store accepted before the last kill, and
    `failed_attempts` the attempts that failed because of the model.
    """

    kills: int = 0
    while_ready: int = 0
    while_assessing: int = 0
    while_arriving: int = 0
    while_amending: int = 0
    while_rendering: int = 0
    requested_before_a_kill: int = 0
    failed_attempts: int = 0


@dataclass(frozen=True)
class RunResult:
    """What a run left behind.

    `originals` are the paths in the cameras folder at the end, `kept` the detections of each media on
    store.kept.v1, `sequences` what a subscriber of the feed received, and `channel` how the services called
    each other. `modes_before` and `amended_open` tell of the amendments, as Amender does.
    """

    outcome: Outcome
    originals: set[str]
    kept: dict[str, set[str]]
    sequences: list[int]
    modes_before: list[str]
    amended_open: int
    head: int
    channel: str
    seconds: float
    faults: FaultCounts


async def run_photos(
    home: Path,
    household: Household,
    drops: list[Drop],
    requests: list[Request],
    settings: dict[str, str],
    kills: Kills | None,
    channel: str = "in-process",
) -> RunResult:
    """Tells Lares about the home, drops the photos, amends, requests the reassessments, kills Lares, and
    reads the outcome once all is done."""
    async with flaky_model() as model:
        lares = Lares(home, settings | {"LARES_REASONER_URL": model.url}, channel=channel)
        return await _run_photos(lares, household, drops, requests, kills, model)


async def _run_photos(
    lares: Lares,
    household: Household,
    drops: list[Drop],
    requests: list[Request],
    kills: Kills | None,
    model: FlakyModel,
) -> RunResult:
    began = time.monotonic()
    lares.cameras.mkdir(parents=True)
    lares.start()
    subscriber, requester = Subscriber(lares), Requester(lares, requests)
    renditions = RenditionRequester(lares)
    amender = Amender(lares, drops, AMENDED, str(PERSON_ID))
    arriving = kills.count * KILL_SECONDS if kills else 0.0
    dropping = asyncio.create_task(_tell_and_drop(lares, household, drops, amender, arriving))
    faults = FaultCounts()
    try:
        for index in range(kills.count if kills else 0):
            assert kills is not None
            faults.while_ready += await kills.wait_for_next(lares, index, requester, renditions, model)
            lares.kill()
            faults.kills += 1
            faults.while_assessing += model.assessing > 0
            faults.while_arriving += not dropping.done()
            faults.while_amending += amender.is_at_work
            faults.while_rendering += renditions.is_waiting
            faults.requested_before_a_kill = len(requester.acknowledged)
            await _gone(lares)
            lares.start()
        await lares.ready()
        await dropping
        await requester.done()
        renditions.begin()
        await renditions.done()
        await lares.idle()
        head = int((await lares.graphql("{ status { store { sequence } } }"))["status"]["store"]["sequence"])
        await subscriber.caught_up(head)
        outcome = await read_outcome(lares)
        unlisted = list[str]()
        cameras = CamerasRoot(lares.cameras.resolve())
        originals = {file.path for file in walk(cameras, "", IgnoredNames(), unlisted.append)}
        assert not unlisted
        faults.failed_attempts = model.failed_attempts
        kept = {id: detection_ids(message) for id, message in (await read_kept(lares)).items()}
        seconds = time.monotonic() - began
        return RunResult(
            outcome,
            originals,
            kept,
            subscriber.seen,
            amender.modes_before,
            amender.amended_open,
            head,
            lares.used_channel(),
            seconds,
            faults,
        )
    finally:
        dropping.cancel()
        await subscriber.close()
        await requester.close()
        await renditions.close()
        await asyncio.gather(dropping, return_exceptions=True)
        await lares.close()


async def _gone(lares: Lares) -> None:
    """Waits until no process is left whose command line names the home of the killed Lares."""
    deadline = time.monotonic() + 90
    while True:
        left = []
        for process in psutil.process_iter(["pid", "cmdline"]):
            if any(str(lares.home) in part for part in process.info["cmdline"] or []):
                left.append(process.info)
        if not left:
            return
        assert time.monotonic() < deadline, f"processes are left: {left}"
        await asyncio.sleep(0.05)


async def _tell_and_drop(
    lares: Lares, household: Household, drops: list[Drop], amender: Amender, seconds: float
) -> None:
    """No photo arrives before Lares knows all about the home, so what an event's evidence says in the end
    does not depend on when it is recorded."""
    await household.tell(lares)
    await asyncio.gather(_drop_all(lares, drops, seconds), amender.amend_all(seconds))


async def _drop_all(lares: Lares, drops: list[Drop], seconds: float) -> None:
    """Drops the photos of each camera with many events in their order, and those of the other cameras at the
    same time, in at least so many seconds. Those of the porch are the amender's."""
    in_order = {
        camera: [drop for drop in drops if drop.camera == camera] for camera in (LONG_CAMERA, *ORDERED)
    }
    others = [drop for drop in drops if drop.camera not in (*in_order, PORCH_CAMERA)]

    async def drop_others() -> None:
        for drop in others:
            if drop.is_upload:
                await persist(partial(upload, lares, drop))
            else:
                await asyncio.to_thread(drop.put, lares.cameras)
            await asyncio.sleep(max(0.3, seconds / len(others)))

    async def drop_in_order(own: list[Drop]) -> None:
        for done, drop in enumerate(own):
            after_late = done > 0 and own[done - 1].late
            if drop.late or after_late or drop.camera in ORDERED:
                await _stored(lares, drop.camera, done)
            await asyncio.to_thread(drop.put, lares.cameras)
            await asyncio.sleep(max(0.15, seconds / len(own)))

    await asyncio.gather(drop_others(), *map(drop_in_order, in_order.values()))


async def _stored(lares: Lares, camera: str, count: int) -> None:
    """Waits until `count` photos of the camera are in the store, even if Lares is killed meanwhile."""
    while True:
        try:
            if len(await pages(lares, STORED, "mediaList", cameras=[camera])) >= count:
                return
        except (httpx.TransportError, FileNotFoundError):
            pass  # Lares was killed during the request
        except Refused as refused:
            if refused.codes - {"UNAVAILABLE"}:
                raise
        await asyncio.sleep(0.2)
