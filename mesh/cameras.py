"""The latest configuration of every camera, from `store.cameras.v1`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakSet

from lares.store.v1.events_pb2 import CameraConfigured
from mesh.bus import Bus
from mesh.topic_follower import follow_topic
from mesh.topics import CAMERAS


class CameraChanges:
    """Iterates over changes made after its creation. Holds only the latest change of each camera, so it is
    bounded."""

    def __init__(self) -> None:
        self._waiting: dict[str, CameraConfigured] = {}
        self._arrived = asyncio.Event()

    def put(self, change: CameraConfigured) -> None:
        self._waiting[change.camera.id] = change
        self._arrived.set()

    def __aiter__(self) -> AsyncIterator[CameraConfigured]:
        return self

    async def __anext__(self) -> CameraConfigured:
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.pop(next(iter(self._waiting)))


class CameraConfigurations:
    """A table that follows the topic, a few milliseconds behind the store."""

    def __init__(self) -> None:
        self._latest: dict[str, CameraConfigured] = {}
        self._subscribers: WeakSet[CameraChanges] = WeakSet()

    def get(self, camera_id: str) -> CameraConfigured | None:
        """Returns None for an unknown camera. A deleted camera is returned with `deleted` set."""
        return self._latest.get(camera_id)

    def all(self) -> list[CameraConfigured]:
        """Returns the cameras that are not deleted."""
        return [camera for camera in self._latest.values() if not camera.deleted]

    def subscribe(self) -> CameraChanges:
        """Returns the changes from now on, including deletions. The subscription ends when the result is no
        longer referenced."""
        changes = CameraChanges()
        self._subscribers.add(changes)
        return changes

    def apply(self, change: CameraConfigured) -> None:
        """Takes a record of the topic. Ignores one that is older than what is known."""
        known = self._latest.get(change.camera.id)
        if known is not None and change.revision < known.revision:
            return
        self._latest[change.camera.id] = change
        for subscriber in list(self._subscribers):
            subscriber.put(change)


@asynccontextmanager
async def open_camera_configurations(bus: Bus) -> AsyncIterator[CameraConfigurations]:
    """Reads the topic to its end before the block is entered, then follows it. Raises Unavailable,
    NotFound."""
    cameras = CameraConfigurations()
    async with follow_topic(bus, CAMERAS, "beginning", cameras.apply, lambda: None):
        yield cameras
