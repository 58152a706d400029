"""Every service in processes of its own, two replicas of each, on separately started Kafka and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.kills.outcome import EVENTS, MEDIA, pages
from tests.kills.scenario import Drop, clips
from tests.support.cluster import Cluster, running_cluster
from tests.support.cluster_clients import Client, Subscriber, all_changes
from tests.support.lares import Lares, running_lares
from tests.support.parts import fresh_database, running_kafka
from tests.support.photos import people

START = 1_767_614_400.0  # 2026-01-05 12:00:00 UTC
COUNTS = {"store": 2, "reason": 2, "gateway": 2, "detect": 2, "ingest": 2}
CAMERAS = ("north", "east", "south", "west")
SETTINGS = {
    "LARES_EVENT_GAP_SECONDS": "4",
    "LARES_EVENT_SPAN_SECONDS": "10",
    "LARES_DRAIN_SECONDS": "0.5",
}


@pytest.fixture
async def cluster(tmp_path: Path, postgres_server: str) -> AsyncIterator[Cluster]:
    async with running_kafka() as kafka, fresh_database(postgres_server) as database:
        parts = {
            "LARES_BUS_URL": kafka,
            "LARES_DATABASE_URL": database,
            "LARES_BLOBS_URL": f"file://{tmp_path}/blobs",
        }
        async with running_cluster(tmp_path, SETTINGS | parts, COUNTS) as cluster:
            yield cluster


def drops(folder: Path, count: int) -> list[Drop]:
    """Photos of four cameras in the order of their capture, then clips with photos between them."""
    samples = people()
    photos = [
        Drop(
            CAMERAS[number % 4],
            f"{number:03}.jpg",
            samples[number % len(samples)],
            START + number,
            number,
        )
        for number in range(count)
    ]
    return [*photos, *(drop for drop in clips(samples[0], folder) if drop.camera == "yard")]


async def test_rolling_restarts_under_load_lose_nothing_and_give_the_events_of_one_process(
    cluster: Cluster, tmp_path: Path
) -> None:
    client, subscribers = Client(cluster), [Subscriber(cluster) for _ in range(2)]
    all_drops, dropped = drops(tmp_path, 200), list[Drop]()
    followed = asyncio.Event()

    async def arrive() -> None:
        """Photos go on arriving until every service has restarted; the clips last."""
        photos = [drop for drop in all_drops if drop.camera != "yard"]
        for drop in [*photos, *(drop for drop in all_drops if drop.camera == "yard")]:
            if followed.is_set() and drop.camera != "yard":
                continue
            await asyncio.to_thread(drop.put, cluster.cameras)
            dropped.append(drop)
            await asyncio.sleep(0.25)

    arriving = asyncio.create_task(arrive())
    background = [
        asyncio.create_task(client.run()),
        *(asyncio.create_task(subscriber.run(turn)) for turn, subscriber in enumerate(subscribers)),
    ]
    await asyncio.gather(roll(cluster, "store", "gateway"), roll(cluster, "reason", "detect", "ingest"))
    for replica in cluster.of["ingest"]:  # each has watched while the other one was restarted
        assert "watching the cameras folder" in replica.log.read_text(), replica.tail()
    followed.set()
    await arriving
    front = cluster.gateways[0]
    await front.until_stored(len(dropped))
    await front.idle()
    feed = await all_changes(cluster, *subscribers)
    for task in background:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert client.errors == []
    assert client.answered > 50
    for subscriber in subscribers:
        assert subscriber.errors == []
        assert subscriber.seen == feed  # every change once, in order
        assert 1012 in subscriber.codes
    found = await outcome(front)
    assert len(found["media"]) == len(dropped)
    async with running_lares(tmp_path / "alone", SETTINGS) as alone:
        for drop in dropped:
            await asyncio.to_thread(drop.put, alone.cameras)
        await alone.until_stored(len(dropped))
        await alone.idle()
        assert await outcome(alone) == found


async def roll(cluster: Cluster, *services: str) -> None:
    """Restarts the replicas of these services, one after the other."""
    for service in services:
        for replica in cluster.of[service]:
            assert await replica.terminate() == 0, replica.tail()
            replica.start()
            await replica.until_ready()


async def outcome(lares: Lares) -> dict[str, dict[str, Any]]:
    """The media with their detections, and the events with the digests of their evidence, by id."""
    media = {node.pop("id"): node for node in await pages(lares, MEDIA, "mediaList")}
    events = {node.pop("id"): node for node in await pages(lares, EVENTS, "events")}
    for node in events.values():
        assert node["closed"]
        node["media"] = sorted(one["id"] for one in node["media"])
        node["detections"] = sorted(edge["node"]["id"] for edge in node["detections"]["edges"])
        del node["assessments"]  # of evidence that frames have joined since
    return {"media": media, "events": events}
