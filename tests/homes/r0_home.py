"""The home of before issue 7 while it is made: its photos, its database, its log.

For a checkout of 09640b9 alone, with its code on the path: `make.py` runs it there, and no type check covers
it.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import cv2
from aiokafka import AIOKafkaConsumer

from deploy.embedded.home import private_socket_folder
from deploy.embedded.kafka import open_kafka
from lares.ingest.v1.events_pb2 import MediaIngested
from mesh.bus import Bus, open_bus
from mesh.topics import (
    DEAD_LETTER_SERVICES,
    TOPICS,
    Topic,
    dead_letters,
)
from tests.support.lares import Lares
from tests.support.parts import CACHE
from tests.support.photos import small_photos
from tests.support.scripted_llm import ScriptedLlm
from tests.support.waiting import until_async

SETTINGS = {"LARES_EVENT_GAP_SECONDS": "2", "LARES_EVENT_SPAN_SECONDS": "60"}

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)

# The home grows older than Lares keeps records: its topics keep them for three hundred years.
FOR_EVER = 10**10

# What small_photos() shows, in order.
WALKER, FAMILY, COOKS, RIDER, CAT, OWL, COWS, HARBOUR = range(8)


class Home:
    """The home that is being made, and the number of its next photo."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._photos = 0

    def photo(self, kind: int) -> tuple[bytes, datetime]:
        """A small JPEG unlike all others, and its time of capture, 100 s after the one before."""
        self._photos += 1
        whole = cv2.imread(str(small_photos()[kind]))
        scale = 320 / max(whole.shape[:2])
        size = (round(whole.shape[1] * scale), round(whole.shape[0] * scale))
        small = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
        content = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()
        comment = f"number {self._photos}".encode()
        marked = content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + content[2:]
        return marked, NOON + timedelta(seconds=100 * self._photos)

    def drop(self, camera: str, *kinds: int, every: float = 1.0) -> None:
        """Photos of one event, `every` seconds apart, into the camera's folder."""
        began: datetime | None = None
        for place, kind in enumerate(kinds):
            content, at = self.photo(kind)
            began = began or at
            self.put(camera, f"{self._photos:03}.jpg", content, began + timedelta(seconds=place * every))

    def put(self, camera: str, name: str, content: bytes, at: datetime) -> None:
        folder = self.folder / "cameras" / camera
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{name}.part"
        part.write_bytes(content)
        os.utime(part, (at.timestamp(), at.timestamp()))
        part.rename(folder / name)

    async def rows(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(
            host=str(private_socket_folder(self.folder, "postgres")),
            user="lares",
            database="lares",
            password=(self.folder / "postgres" / "password").read_text().strip(),
        )
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    async def until(self, camera: str, condition: str, count: int = 1) -> None:
        """Waits for so many events of the camera that meet the SQL condition."""

        async def met() -> bool:
            found = await self.rows(f"SELECT id FROM events WHERE camera_id = $1 AND {condition}", camera)
            return len(found) == count

        try:
            await until_async(met)
        except AssertionError:
            raise AssertionError(
                (camera, condition, await self.rows("SELECT * FROM events WHERE camera_id = $1", camera))
            ) from None

    async def event(self, camera: str) -> asyncpg.Record:
        """The camera's only event."""
        (row,) = await self.rows("SELECT * FROM events WHERE camera_id = $1", camera)
        return row


async def create_topics(folder: Path) -> None:
    topics = [replace(topic, retention_seconds=topic.retention_seconds and FOR_EVER) for topic in TOPICS]
    for service in DEAD_LETTER_SERVICES:
        name = dead_letters(service)
        topics.append(Topic(name, MediaIngested, lambda _: "", "", 1, FOR_EVER, (), ()))
    async with kafka_alone(folder) as bus:
        await bus.create_topics(topics, [])


@asynccontextmanager
async def kafka_alone(folder: Path) -> AsyncIterator[Bus]:
    async with (
        open_kafka(folder, "127.0.0.1:0", CACHE) as url,
        open_bus(url, client_id="make") as bus,
    ):
        yield bus


def settings(llm: ScriptedLlm, **more: str) -> dict[str, str]:
    return SETTINGS | {"LARES_REASONER_URL": llm.url(), "LARES_INGEST_ORIGINALS": "take", **more}


async def until_dead(lares: Lares, service: str, count: int) -> None:
    async def there() -> bool:
        return len(await values(lares, dead_letters(service))) >= count

    await until_async(there)


async def values(lares: Lares, topic: str) -> list[bytes]:
    """Every record of a topic."""
    found: list[bytes] = []
    async with AIOKafkaConsumer(topic, auto_offset_reset="earliest", **lares.admin_kafka_options) as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [record.value for record in records]
    return found
