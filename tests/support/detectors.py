"""A fake detector with prepared results, and a fake stream of the bus."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from detect_svc.detectors.detector import DecodedPicture, Photo, ServerState
from detect_svc.detectors.frame_message import Finding, frame_message
from lares.detect.v1.detection_pb2 import Frame
from lares.ingest.v1.events_pb2 import MediaIngested
from lares.ingest.v1.media_pb2 import FileFingerprint, Media
from mesh.bus import Delivery, Output
from mesh.labels import COCO_LABELS
from mesh.problems import Problem, Unavailable
from mesh.topics import INGESTED

EMPTY = frame_message(640, 480, [])


def person(score: float) -> Finding:
    return "person", score, (0.1, 0.2, 0.3, 0.4)


def name_of(photo: Photo) -> str:
    if isinstance(photo, DecodedPicture):
        return f"{photo.width}x{photo.height}"
    return photo.name if isinstance(photo, Path) else photo.decode()


class FakeDetector:
    """Returns `results` by the photo's file name or content, or a picture's size (`640x360`). An exception is
    raised. Of a list, each call uses the next element, and the last one is used again."""

    name = "fake"
    digest = "ab" * 32
    labels: tuple[str, ...] = COCO_LABELS
    input_size = (320, 320)
    threshold, fast_threshold = 0.5, 0.8
    photos_in_flight = 2

    def __init__(self) -> None:
        self.results: dict[str, Frame | Exception | list[Frame | Exception]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.requested: list[str] = []
        self.busy = self.busiest = 0
        self.problem: Unavailable | None = None
        self.states: list[ServerState] = []

    async def detect(self, photo: Photo) -> Frame:
        name = name_of(photo)
        self.requested.append(name)
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            if name in self.gates:
                await self.gates[name].wait()
            result = self.results.get(name, EMPTY)
            if isinstance(result, list):
                result = result.pop(0) if len(result) > 1 else result[0]
            if isinstance(result, Exception):
                raise result
            frame = Frame()
            frame.CopyFrom(result)  # a caller may change its own
            return frame
        finally:
            self.busy -= 1

    async def check(self) -> None:
        """Raises `problem` if it is set."""
        if self.problem:
            raise self.problem

    def servers(self) -> list[ServerState]:
        return self.states


def _delivery(item: Delivery[MediaIngested] | Problem) -> Delivery[MediaIngested]:
    if isinstance(item, Problem):
        raise item
    return item


class FakeStream:
    """Has the interface of the bus's Stream, and records what was done and what became a dead letter, in
    order."""

    topic_id = "fake"

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[Delivery[MediaIngested] | Problem] = asyncio.Queue()
        self.outputs: dict[int, tuple[Output, ...]] = {}
        self.buried: dict[int, tuple[str, int]] = {}
        self.order: list[int] = []
        self.urgent: set[int] = set()
        self.broken_burials = 0
        self.moved: set[str] = set()  # the names of those that belong to somebody else now

    def put(
        self, *names: str, backlog: bool = False, change: Callable[[Media], None] = lambda _: None
    ) -> None:
        """Adds a MediaIngested for each name, which is also its sha256."""
        for name in names:
            media = Media(id=f"id-{name}", camera_id="door", sha256=name, size_bytes=9)
            media.file.CopyFrom(FileFingerprint(path=f"door/{name}.jpg", size_bytes=9, mtime_ns=7))
            change(media)
            offset = self.waiting.qsize() + len(self.order)
            message = MediaIngested(media=media, backlog=backlog)
            self.waiting.put_nowait(
                Delivery(message, "door", INGESTED.name, 0, offset, datetime.now(UTC), {})
            )

    def stop(self, problem: Problem) -> None:
        """Makes the stream raise `problem` after the records added so far."""
        self.waiting.put_nowait(problem)

    async def batches(self, max_records: int, linger: float = 0.0) -> AsyncIterator[list[Delivery[Any]]]:
        while True:
            batch = [await self.waiting.get()]
            while len(batch) < max_records and not self.waiting.empty():
                batch.append(self.waiting.get_nowait())
            yield [_delivery(item) for item in batch]

    def done(self, delivery: Delivery[Any], *outputs: Output, urgent: bool = True) -> None:
        self.outputs[delivery.offset] = outputs
        if urgent:
            self.urgent.add(delivery.offset)
        self.order.append(delivery.offset)

    def holds(self, delivery: Delivery[Any]) -> bool:
        return delivery.message.media.sha256 not in self.moved

    async def bury(self, delivery: Delivery[Any], reason: str, *outputs: Output, attempts: int = 1) -> None:
        if self.broken_burials:
            self.broken_burials -= 1
            raise Unavailable("no broker", "BUS_DOWN")
        self.buried[delivery.offset] = (reason, attempts)
        if outputs:
            self.outputs[delivery.offset] = outputs
        self.order.append(delivery.offset)

    async def wait_until_done(self, count: int) -> None:
        """Waits until `count` records are done or dead letters."""
        async with asyncio.timeout(90):
            while len(self.order) < count:
                await asyncio.sleep(0.005)
