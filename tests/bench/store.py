"""The store: CPU per detection message persisted, in batches of 100, against executemany of the same rows.
PostgreSQL's own CPU is counted on both sides."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import psutil

from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.media_pb2 import CAPTURED_AT_SOURCE_MTIME, MEDIA_TYPE_JPEG
from mesh.delivery import Delivery
from mesh.identity import detection_id, media_id
from mesh.topics import DETECTED
from store_svc.assembly import Limits
from store_svc.database import open_database
from store_svc.detected import DetectedRecorder
from store_svc.migration import migrate
from store_svc.offsets import Offsets
from store_svc.records import arrival
from store_svc.tables import detections, media
from store_svc.times import now
from store_svc.wakeups import Wakeups
from store_svc.worker import Consumer
from tests.bench.measure import Row, cpu_seconds
from tests.support.parts import fresh_database, running_postgres

BATCHES, BATCH, WARM, CAMERAS = 60, 100, 10, 10
START_SECONDS = 1_767_614_400


@dataclass
class Stream:
    """As much of the bus's stream as the store's consumer touches."""

    topic_id: str = "bench"

    def done(self, delivery: Delivery[Any]) -> None:
        """Nothing to commit."""


async def measure(folder: Path) -> list[Row]:
    async with running_postgres() as server:
        async with fresh_database(server) as url:
            ours = await _ours(url)
        async with fresh_database(server) as url:
            theirs = await _executemany(url)
    ratio = ours / theirs
    return [
        Row(
            "store, CPU per detection message, batches of 100",
            f"{ours * 1e6:.0f} us",
            f"executemany {theirs * 1e6:.0f} us",
            f"{ratio:.1f}x",
            "<= 2x",
            ratio <= 2,
        )
    ]


def _cpu() -> float:
    """Seconds of this process and of PostgreSQL, its child."""
    here = psutil.Process()
    return cpu_seconds([here, *here.children(recursive=True)])


async def _ours(url: str) -> float:
    """From the record's bytes to the commit: read, assemble, write media, detections, events and feed."""
    await migrate(url)
    async with open_database(url) as database:
        offsets = Offsets(database, "bench")
        await offsets.load(DETECTED.name, Stream.topic_id, [0])
        consumer = Consumer(database, offsets, Wakeups(), DetectedRecorder(Limits(), "UTC", now))
        stream: Any = Stream()
        for index in range(WARM):
            await consumer.take(stream, _decoded(_batch(index)))
        batches = [_batch(index) for index in range(WARM, WARM + BATCHES)]
        began = _cpu()
        for batch in batches:
            await consumer.take(stream, _decoded(batch))
        used = _cpu() - began
        async with database.session() as connection:
            stored = await connection.fetchval("SELECT count(*) FROM media")
        assert stored == (WARM + BATCHES) * BATCH
    return used / (BATCHES * BATCH)


async def _executemany(url: str) -> float:
    """The rows alone, ready made: what no store could do without."""
    await migrate(url)
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        batches = [_rows(_decoded(_batch(index))) for index in range(WARM + BATCHES)]
        for rows in batches[:WARM]:
            await _insert(connection, *rows)
        began = _cpu()
        for rows in batches[WARM:]:
            await _insert(connection, *rows)
        used = _cpu() - began
        assert await connection.fetchval("SELECT count(*) FROM media") == (WARM + BATCHES) * BATCH
    finally:
        await connection.close()
    return used / (BATCHES * BATCH)


async def _insert(
    connection: asyncpg.Connection, photos: Sequence[tuple[Any, ...]], found: Sequence[tuple[Any, ...]]
) -> None:
    async with connection.transaction():
        for table, rows in ((media, photos), (detections, found)):
            places = ", ".join(f"${number}" for number in range(1, len(table.columns) + 1))
            await connection.executemany(f"INSERT INTO {table.name} VALUES ({places})", rows)


def _rows(batch: Sequence[Delivery[MediaDetected]]) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    photos, found = [], []
    moment, event = datetime.now(UTC), uuid4()
    for delivery in batch:
        item = arrival(delivery.message, 0)
        photos.append((item.media_id, item.camera_id, *item.row, moment))
        for _, rows in item.found:
            place = (item.media_id, event, item.camera_id)
            found += [(row[0], *place, *row[1:], item.captured_at) for row in rows]
    return photos, found


def _batch(index: int) -> list[bytes]:
    """Records of ten cameras, a second apart, two detections each."""
    return [_record(index * BATCH + number).SerializeToString() for number in range(BATCH)]


def _record(number: int) -> MediaDetected:
    message = MediaDetected(detector="efficientdet-lite0@0720bf247bd7")
    photo, camera = message.media, f"camera-{number % CAMERAS}"
    photo.sha256 = f"{number:064x}"
    photo.id, photo.camera_id, photo.camera_name = media_id(camera, photo.sha256), camera, camera
    photo.size_bytes, photo.width, photo.height = 500_000, 1920, 1080
    photo.type = MEDIA_TYPE_JPEG
    photo.captured_at.FromSeconds(START_SECONDS + number // CAMERAS)
    photo.captured_at_source = CAPTURED_AT_SOURCE_MTIME
    photo.ingested_at.FromSeconds(START_SECONDS + number)
    photo.file.path, photo.file.size_bytes, photo.file.mtime_ns = f"{camera}/{number}.jpg", 500_000, number
    message.detected_at.FromSeconds(START_SECONDS + number)
    for rank, label in enumerate(("person", "dog")):
        one = message.detections.add(label=label, score=0.5 + rank / 10, box=[0.1, 0.2, 0.3, 0.4])
        one.id = detection_id(photo.id, 0, rank, message.detector)
    return message


def _decoded(batch: list[bytes]) -> list[Delivery[MediaDetected]]:
    """As the bus hands them over; the offset is told by the record's own number."""
    deliveries = []
    moment = datetime.now(UTC)
    for record in batch:
        message = MediaDetected.FromString(record)
        offset = message.media.file.mtime_ns
        camera = message.media.camera_id
        deliveries.append(Delivery(message, camera, DETECTED.name, 0, offset, moment, {}))
    return deliveries
