"""The events of Lares are a pure function of its log and of the cameras' configuration at recording.

Photos are dropped in random order, and the camera's configuration is changed in between.
"""

import asyncio
import random
from pathlib import Path

from lares.detect.v1.events_pb2 import MediaDetected
from lares.store.v1.camera_pb2 import Camera
from lares.store.v1.events_pb2 import CameraConfigured, MediaKept
from mesh.bus import open_bus
from mesh.config import load_config
from mesh.topics import CAMERAS, DETECTED
from store_svc.domain.assembly import AssemblyLimits, Timeline
from store_svc.domain.camera_scene import SCENE_SETTINGS, camera_watch, changed_scene
from store_svc.domain.watch_policy import CameraWatch, ModelThresholds, WatchPolicy
from store_svc.recording.decided_media import DecidedMedia, apply_policy
from store_svc.recording.media_record import read_media
from store_svc.service import watch_settings
from store_svc.times import SECOND
from tests.kills.outcome import read_outcome
from tests.kills.scenario import LONG_CAMERA, long_visit
from tests.support.kept import detection_ids, read_kept
from tests.support.lares import Lares, running_lares
from tests.support.photos import small_photos
from tests.support.topic_values import topic_values

GAP, SPAN, MAX_DETECTIONS = 4, 12, 8
PHOTOS = 40


UPDATE = """mutation($id: ID!, $thresholds: [ThresholdInput!]) {
  updateCamera(input: {id: $id, thresholds: $thresholds}) { camera { id } } }"""
CONFIGURATIONS = [[{"label": "*", "score": 0.2}], [{"label": "person", "score": 0.8}]]


async def test_a_replay_of_the_log_gives_the_same_events(tmp_path: Path) -> None:
    chance = random.Random(11)
    drops = long_visit(small_photos(), PHOTOS, GAP, SPAN, chance)
    chance.shuffle(drops)
    changes = dict(zip((len(drops) // 3, 2 * len(drops) // 3), CONFIGURATIONS, strict=True))
    settings = {
        "LARES_EVENT_GAP_SECONDS": str(GAP),
        "LARES_EVENT_SPAN_SECONDS": str(SPAN),
        "LARES_EVENT_MAX_DETECTIONS": str(MAX_DETECTIONS),
    }
    async with running_lares(tmp_path / "home", settings) as lares:
        for done, drop in enumerate(drops):
            if done in changes:
                await lares.until_stored(1)  # the first photo creates the camera
                await lares.graphql(UPDATE, id=LONG_CAMERA, thresholds=changes[done])
            await asyncio.to_thread(drop.put, lares.cameras)
            await asyncio.sleep(0.05)
        await lares.until_stored(len(drops))
        await lares.idle()
        outcome = await read_outcome(lares)
        log = await read_log(lares, len(drops))
        kept = await read_kept(lares)
        configured = await read_configurations(lares)
    assert len(log) == len(kept) == len(drops)
    decided = [decide_again(message, kept[message.media.id], configured) for message in log]
    for one in decided:
        assert one.policy
        published = kept[one.record.message.media.id]
        assert published.policy_digest == one.policy.digest
        assert detection_ids(published) == {str(row[0]) for frame in one.frames for row in frame.kept}
    assert len({one.policy and one.policy.digest for one in decided}) == 3
    replayed = replay(decided)
    assert {event: set(node["detections"]) for event, node in outcome.events.items()} == replayed
    assert len(replayed) > 5


async def read_log(lares: Lares, count: int) -> list[MediaDetected]:
    """Returns the camera's first `count` records on detect.detections.v1, in log order."""
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


async def read_configurations(lares: Lares) -> dict[int, CameraWatch]:
    """Returns the configurations of the camera by revision."""
    changes = [CameraConfigured.FromString(value) for value in await topic_values(lares, CAMERAS.name)]
    return {change.revision: _watch_of(change.camera) for change in changes}


def _watch_of(camera: Camera) -> CameraWatch:
    scene = changed_scene(b"", {name: getattr(camera, name) for name in SCENE_SETTINGS})
    return camera_watch(dict(camera.thresholds), scene)


def decide_again(message: MediaDetected, kept: MediaKept, configured: dict[int, CameraWatch]) -> DecidedMedia:
    """Applies the configuration that was in force when the media was recorded."""
    model = ModelThresholds(message.model.threshold, message.model.fast_threshold)
    watch = configured[kept.camera_revision]
    return apply_policy(read_media(message, 0), WatchPolicy.of(watch_settings(load_config()), watch, model))


def replay(decided: list[DecidedMedia]) -> dict[str, set[str]]:
    """Returns the detections of each event, assembled from the first record of each media."""
    timeline = Timeline([], AssemblyLimits(gap=GAP * SECOND, span=SPAN * SECOND, detections=MAX_DETECTIONS))
    events: dict[str, set[str]] = {}
    seen: set[str] = set()
    for one in decided:
        media = one.record.message.media.id
        if media in seen:
            continue
        seen.add(media)
        for frame in one.frames:
            if frame.kept:
                event = timeline.place(frame.to_assembly(media)).event_id
                events.setdefault(str(event), set()).update(str(row[0]) for row in frame.kept)
    return events
