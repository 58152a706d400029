"""Many photos that are moved into the cameras' folders at once."""

import asyncio
import os
import time
from pathlib import Path

from mesh.bus import open_bus
from mesh.topics import DETECTED
from tests.support.lares import Lares
from tests.support.photos import person_photo, renumbered

CAMERAS = 4
LAG = "{ status { store { detectionsLag } } }"


def write_backlog(staging: Path, camera: str, first: int, count: int, apart: float = 0.0) -> list[Path]:
    """Writes different photos of 1080p with a person, numbered from `first`, in one folder for each camera.
    Their capture times are `apart` seconds from each other."""
    now = time.time()
    files = []
    for number in range(first, first + count):
        folder = staging / f"{camera}-{number % CAMERAS}"
        folder.mkdir(parents=True, exist_ok=True)
        photo = folder / f"{number:04}.jpg"
        photo.write_bytes(renumbered(person_photo(), number))
        taken = now - (first + count - number) * apart
        os.utime(photo, (taken, taken))
        files.append(photo)
    return files


async def process_backlog(lares: Lares, staging: Path, count: int) -> float:
    """Moves the `count` photos below `staging` into the cameras' folders. Returns the seconds until the store
    has recorded the last one."""
    async with (
        open_bus(lares.admin_kafka_url, client_id="bench") as bus,
        bus.tail(DETECTED, start="end") as tail,
    ):
        began = time.monotonic()
        for folder in sorted(staging.iterdir()):
            folder.rename(lares.cameras / folder.name)
        seen = 0
        async for _ in tail:
            seen += 1
            if seen == count:
                break
        while (await lares.graphql(LAG))["status"]["store"]["detectionsLag"]:
            await asyncio.sleep(0.02)
        return time.monotonic() - began
