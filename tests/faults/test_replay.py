"""Photos in any order: what Lares made of them is what the fold over its own log makes of them."""

import asyncio
import random
from pathlib import Path

from lares.detect.v1.events_pb2 import MediaDetected
from mesh.bus import open_bus
from mesh.topics import DETECTED
from store_svc.assembly import Frame, Limits, Timeline
from store_svc.times import SECOND
from tests.faults.outcome import read_outcome
from tests.faults.scenario import LONG_CAMERA, long_visit
from tests.support.lares import Lares, running_lares
from tests.support.photos import small_photos

GAP, SPAN, MOST = 4, 12, 8
PHOTOS = 40


async def test_shuffled_drops_are_what_a_replay_of_the_log_makes(tmp_path: Path) -> None:
    chance = random.Random(11)
    drops = long_visit(small_photos(), PHOTOS, GAP, SPAN, chance)
    chance.shuffle(drops)
    settings = {
        "LARES_EVENT_GAP_SECONDS": str(GAP),
        "LARES_EVENT_SPAN_SECONDS": str(SPAN),
        "LARES_EVENT_MAX_DETECTIONS": str(MOST),
    }
    async with running_lares(tmp_path / "home", settings) as lares:
        for drop in drops:
            await asyncio.to_thread(drop.put, lares.cameras)
            await asyncio.sleep(0.05)
        await lares.until_stored(len(drops))
        await lares.idle()
        outcome = await read_outcome(lares)
        log = await read_log(lares, len(drops))
    assert len(log) == len(drops)
    replayed = replay(log)
    assert {event: set(node["detections"]) for event, node in outcome.events.items()} == replayed
    assert len(replayed) > 5


async def read_log(lares: Lares, count: int) -> list[MediaDetected]:
    """The camera's first `count` records on detect.detections.v1, in log order."""
    log: list[MediaDetected] = []
    async with (
        open_bus(lares.admin_kafka_url, client_id="replay") as bus,
        bus.tail(DETECTED, start="beginning") as tail,
    ):
        async for delivery in tail:
            log.append(delivery.message)
            if len(log) >= count:
                break
    assert {message.media.camera_id for message in log} == {LONG_CAMERA}
    return log


def replay(log: list[MediaDetected]) -> dict[str, set[str]]:
    """Event id -> its detections, by the pure fold; the first record of each media counts."""
    timeline = Timeline([], Limits(gap=GAP * SECOND, span=SPAN * SECOND, detections=MOST))
    events: dict[str, set[str]] = {}
    seen: set[str] = set()
    for message in log:
        if message.media.id in seen or not message.detections:
            continue
        seen.add(message.media.id)
        at = message.media.captured_at.ToMicroseconds()
        frame = Frame(message.media.id, 0, at, len(message.detections))
        event, _ = timeline.place(frame)
        events.setdefault(str(event), set()).update(found.id for found in message.detections)
    return events
