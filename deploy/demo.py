"""`lares demo`: puts sample photos into a camera's folder and prints the events that they become."""

import asyncio
import os
import shutil
import time
from pathlib import Path
from uuid import uuid4

from deploy.client import open_client
from deploy.samples import sample_photos
from lares.reason.v1.assessment_pb2 import Severity
from lares.store.v1 import event_service_pb2 as events
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from lares.store.v1.event_pb2 import EventStatus
from lares.store.v1.events_pb2 import EventChanged
from mesh.config import Config
from mesh.rpc import call, stream
from mesh.visible_text import visible

PAUSE_SECONDS = 2.0
# An event closes 30 s after its last photo and is assessed then, if it was not assessed at once.
AFTER_SECONDS = 40.0


async def show(config: Config, camera: str) -> None:
    """Copies the samples into the folder, one every two seconds, and prints each change of an event until
    40 s after the last photo. Raises Unavailable NOT_RUNNING."""
    photos = await asyncio.to_thread(sample_photos, config.cache)
    folder = config.cameras_folder / camera
    async with open_client(config) as (channel, key):
        stub = events_rpc.EventServiceStub(channel)
        # Fails before a folder is created if no Lares runs here.
        head = (await call(stub.GetStoreStatus, events.GetStoreStatusRequest(), headers=key)).sequence
        print(f"Copying {len(photos)} photos into {folder}, one every {PAUSE_SECONDS:g} s.")
        dropping = asyncio.create_task(_drop(photos, folder))
        try:
            async with asyncio.timeout(len(photos) * PAUSE_SECONDS + AFTER_SECONDS):
                request = events.WatchEventsRequest(after=head)
                async for answer in stream(stub.WatchEvents, request, headers=key):
                    print(line(answer.change), flush=True)
        except TimeoutError:
            print("Done. The events are kept: query `events` in GraphQL.")
        finally:
            dropping.cancel()
            await asyncio.gather(dropping, return_exceptions=True)


async def _drop(photos: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        # The current time becomes the capture time. The rename makes the file appear complete, as an upload.
        partial = folder / f".{uuid4().hex}.part"
        await asyncio.to_thread(shutil.copyfile, photo, partial)
        os.utime(partial)
        partial.rename(folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{photo.name}")
        await asyncio.sleep(PAUSE_SECONDS)


def line(change: EventChanged) -> str:
    """Formats one change for a person."""
    event = change.event
    status = EventStatus.Name(event.status).removeprefix("EVENT_STATUS_")
    text = (
        f"#{change.sequence} {event.started_at.ToDatetime():%H:%M:%S} {event.camera_name}: "
        f"{', '.join(event.labels)} ({event.detection_count} found) {status}"
    )
    if event.HasField("assessment"):
        assessment = event.assessment
        severity = Severity.Name(assessment.severity).removeprefix("SEVERITY_")
        text += f" | score {assessment.score} {severity}: {assessment.summary}"
    return visible(text)
