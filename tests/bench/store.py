"""The store: CPU per detection message persisted, in batches of 100, against executemany of the rows that it
leaves in the database. PostgreSQL's own CPU is counted on both sides."""

import asyncio
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from lares.detect.v1.detection_pb2 import BoundingBox
from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.media_pb2 import CAPTURED_AT_SOURCE_MTIME, MEDIA_TYPE_JPEG
from mesh.config import load_config
from mesh.delivery import Delivery
from mesh.identity import media_id
from mesh.labels import COCO_LABELS
from mesh.topics import DETECTED
from store_svc.commit_signals import CommitSignals
from store_svc.consumer import Consumer
from store_svc.database import open_database
from store_svc.database.tables import detections, events, feed, files, frames, kept_outbox, media
from store_svc.domain.assembly import AssemblyLimits
from store_svc.house.contexts import HouseContexts
from store_svc.migration import migrate
from store_svc.offsets import Offsets
from store_svc.recording.media_detected import MediaDetectedRecorder
from store_svc.service import watch_settings
from store_svc.times import now
from tests.bench.measure import Row, cpu_seconds, microseconds
from tests.bench.trees import Bench, code_of, in_pairs
from tests.support.parts import fresh_database, running_postgres

BATCHES, BATCH, WARM, CAMERAS = 60, 100, 10, 10
START_SECONDS = 1_767_614_400
# The mean of what EfficientDet reports of the sample photos.
FINDINGS = 15
LIMIT = 1.3


@dataclass
class Stream:
    """As much of the bus's stream as the store's consumer touches."""

    topic_id: str = "bench"

    def done(self, delivery: Delivery[Any]) -> None:
        """Nothing to commit."""


# Run with each tree, as the measurement uses the store's own modules. On uvloop and with a frozen heap, as
# Lares runs. Earlier commits round to microseconds.
PROGRAM = """
import gc, pathlib, sys, uvloop
from tests.bench import store
gc.freeze()
if hasattr(store, "compare"):
    print(*uvloop.run(store.compare()))
else:
    (row,) = uvloop.run(store.measure(pathlib.Path(sys.argv[1])))
    print(*(float(text.split()[-2]) / 1e6 for text in (row.value, row.compared_with)))
"""


async def measure(bench: Bench) -> list[Row]:
    async def once(tree: Path, folder: Path) -> dict[str, float]:
        folder.mkdir()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, folder, cwd=tree, env=os.environ | code_of(tree), stdout=-1
        )
        output, _ = await process.communicate()
        assert process.returncode == 0
        ours, theirs = output.splitlines()[-1].split()
        return {"store": float(ours), "store, executemany": float(theirs)}

    found = await in_pairs(bench, bench.pairs, once)
    title = f"store, CPU for a detection message, batches of {BATCH}"
    return [found["store"].row_beside(found["store, executemany"], title, "executemany", microseconds, LIMIT)]


async def compare() -> tuple[float, float]:
    """Returns the CPU seconds of the store for a message, and of executemany for the same rows."""
    async with running_postgres() as server:
        async with fresh_database(server) as url:
            ours = await _ours(url)
            written = await _written(url)
        async with fresh_database(server) as url:
            return ours, await _executemany(url, written)


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
        consumer = Consumer(
            database,
            offsets,
            CommitSignals(),
            MediaDetectedRecorder(
                AssemblyLimits(),
                watch_settings(load_config()),
                "UTC",
                HouseContexts(timedelta(minutes=2)),
                now,
            ),
        )
        stream: Any = Stream()
        for index in range(WARM):
            await consumer.process(stream, _decoded(_batch(index)))
        batches = [_batch(index) for index in range(WARM, WARM + BATCHES)]
        began = _cpu()
        for batch in batches:
            await consumer.process(stream, _decoded(batch))
        used = _cpu() - began
        async with database.connection() as connection:
            stored = await connection.fetchval("SELECT count(*) FROM media")
        assert stored == (WARM + BATCHES) * BATCH
    return used / (BATCHES * BATCH)


async def _written(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """By table, the rows that the store has written."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return {
            table.name: [tuple(row) for row in await connection.fetch(f"SELECT * FROM {table.name}")]
            for table in (media, files, frames, detections, events, feed, kept_outbox)
        }
    finally:
        await connection.close()


async def _executemany(url: str, written: dict[str, list[tuple[Any, ...]]]) -> float:
    """The same rows alone, ready made, in as many transactions: what no store could do without."""
    await migrate(url)
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    batches = WARM + BATCHES
    try:
        for index in range(batches):
            if index == WARM:
                began = _cpu()
            async with connection.transaction():
                for name, rows in written.items():
                    places = ", ".join(f"${number}" for number in range(1, len(rows[0]) + 1))
                    part = rows[len(rows) * index // batches : len(rows) * (index + 1) // batches]
                    await connection.executemany(
                        f"INSERT INTO {name} OVERRIDING SYSTEM VALUE VALUES ({places})", part
                    )
        used = _cpu() - began
        assert await connection.fetchval("SELECT count(*) FROM media") == batches * BATCH
    finally:
        await connection.close()
    return used / (BATCHES * BATCH)


def _batch(index: int) -> list[bytes]:
    """Records of ten cameras, a second apart, with two detections that count and FINDINGS - 2 that do not."""
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
    message.model.id, message.model.labels[:] = message.detector, COCO_LABELS
    message.model.threshold, message.model.fast_threshold = 0.5, 0.6
    frame = message.frames.add(width=1920, height=1080)
    frame.captured_at.CopyFrom(photo.captured_at)
    for rank in range(FINDINGS):
        score = 0.6 if rank < 2 else 0.4 - rank / 100
        box = BoundingBox(x_min=0.1, y_min=0.2, x_max=0.3, y_max=0.4)
        frame.detections.add(rank=rank, label=("person", "dog")[rank % 2], score=score, bounding_box=box)
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
