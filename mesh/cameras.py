"""The latest configuration of every camera, from `store.cameras.v1`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lares.store.v1.events_pb2 import CameraConfigured
from mesh.bus import Bus


class Cameras:
    def get(self, camera_id: str) -> CameraConfigured | None:
        raise NotImplementedError

    def all(self) -> list[CameraConfigured]:
        raise NotImplementedError

    def subscribe(self) -> AsyncIterator[CameraConfigured]:
        raise NotImplementedError


@asynccontextmanager
async def open_cameras(bus: Bus) -> AsyncIterator[Cameras]:
    raise NotImplementedError
    yield Cameras()
