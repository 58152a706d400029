"""Measures how soon a photo in an idle Lares is detected, reported as an event and assessed, seen from
outside. One photo a second is added."""

import asyncio
import time
from pathlib import Path

import grpc

from lares.store.v1 import event_service_pb2 as events
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from lares.store.v1.event_pb2 import Event
from mesh.bus import open_bus
from mesh.topics import DETECTED
from tests.bench.measure import Row, percentile
from tests.support.lares import Lares, running_lares
from tests.support.photos import person_photo, renumbered

PHOTOS = 60


async def measure(folder: Path) -> list[Row]:
    detected: dict[str, float] = {}
    pending: dict[str, float] = {}
    assessed: dict[str, float] = {}
    closed: dict[str, float] = {}
    async with running_lares(folder / "latency") as lares:
        watchers = [
            asyncio.create_task(_watch_topic(lares, detected)),
            asyncio.create_task(_watch_feed(lares, pending, assessed)),
        ]
        await asyncio.sleep(1)
        for index in range(PHOTOS):
            camera = f"cam-{index:03}"
            folder_of_camera = lares.cameras / camera
            folder_of_camera.mkdir(parents=True)
            await asyncio.sleep(0.5)
            partial = folder_of_camera / ".photo.part"
            partial.write_bytes(renumbered(person_photo(), index))
            closed[camera] = time.monotonic()
            partial.rename(folder_of_camera / "photo.jpg")
            await asyncio.sleep(0.5)
        await asyncio.sleep(2)
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
    return [
        _row("file closed -> detection on its topic", closed, detected, 0.3),
        _row("file closed -> PENDING event on a subscription", closed, pending, 0.5),
        _row("file closed -> score on it (fast path)", closed, assessed, 1.0),
    ]


def _row(measure: str, closed: dict[str, float], seen: dict[str, float], aim: float) -> Row:
    missing = len(closed.keys() - seen.keys())
    took = [seen[camera] - closed[camera] for camera in closed if camera in seen]
    if not took:
        return Row(measure, "nothing seen", "-", "", f"p99 <= {aim} s", met=False)
    p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
    found = f"p99 {p99 * 1000:.0f} ms"
    note = f"p50 {p50 * 1000:.0f} ms, {missing} missing"
    return Row(measure, found, note, "", f"p99 <= {aim} s", p99 <= aim and not missing)


async def _watch_topic(lares: Lares, seen: dict[str, float]) -> None:
    async with (
        open_bus(lares.admin_kafka_url, client_id="bench") as bus,
        bus.tail(DETECTED, start="end") as tail,
    ):
        async for delivery in tail:
            seen.setdefault(delivery.message.media.camera_id, time.monotonic())


async def _watch_feed(lares: Lares, pending: dict[str, float], assessed: dict[str, float]) -> None:
    async with grpc.aio.insecure_channel(lares.grpc) as channel:
        stub = events_rpc.EventServiceStub(channel)
        responses = stub.WatchEvents(events.WatchEventsRequest(after=0), metadata=(("x-api-key", lares.key),))
        async for response in responses:
            event: Event = response.change.event
            pending.setdefault(event.camera_id, time.monotonic())
            if event.HasField("assessment"):
                assessed.setdefault(event.camera_id, time.monotonic())
