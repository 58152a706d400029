"""`lares demo`: puts sample photos and a clip into cameras' folders and prints the events of them."""

import asyncio
import time
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from uuid import uuid4

from deploy.client import open_client
from deploy.samples import CLIP_PHOTOS, sample_photos
from lares.reason.v1.assessment_pb2 import Severity
from lares.store.v1 import event_service_pb2 as events
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from lares.store.v1.event_pb2 import Event, EventStatus
from lares.store.v1.events_pb2 import EventChanged
from mesh.config import Config
from mesh.processes.sandbox import Sandbox
from mesh.rpc import call, stream
from mesh.tls.files import own_authority
from mesh.visible_text import visible

PAUSE_SECONDS = 2.0
# An event closes 30 s after its last photo and is assessed then, if it was not assessed at once.
AFTER_SECONDS = 40.0
# To make a clip of 8 s, which takes a second.
CLIP_SECONDS = 60.0


async def show(config: Config, camera: str) -> None:
    """Copies the samples into the folder, one every two seconds, and a clip into that of another camera, and
    prints each change of an event until 40 s after the last photo. Raises Unavailable NOT_RUNNING."""
    photos = await asyncio.to_thread(sample_photos, config.cache)
    folder, clip_folder = config.cameras_folder / camera, config.cameras_folder / f"{camera}-clip"
    async with open_client(config) as (channel, key):
        stub = events_rpc.EventServiceStub(channel)
        # Fails before a folder is created if no Lares runs here.
        head = (await call(stub.GetStoreStatus, events.GetStoreStatusRequest(), headers=key)).sequence
        clip = await make_clip(photos)
        if clip:
            print(f"Copying a clip into {clip_folder}.")
        else:
            print('No clip is shown: `pip install "lares[clips]"` is missing.')
        print(f"Copying {len(photos)} photos into {folder}, one every {PAUSE_SECONDS:g} s.")
        clip_events = set[str]()
        dropping = asyncio.create_task(_drop(photos, folder, clip, clip_folder))
        try:
            async with asyncio.timeout(len(photos) * PAUSE_SECONDS + AFTER_SECONDS):
                request = events.WatchEventsRequest(after=head)
                async for answer in stream(stub.WatchEvents, request, headers=key):
                    print(line(answer.change), flush=True)
                    event = answer.change.event
                    if event.id not in clip_events and _is_assessed_event_of(clip_folder, event):
                        clip_events.add(event.id)
                        print(clip_command(config, event.id), flush=True)
        except TimeoutError:
            print("Done. The events are kept: query `events` in GraphQL.")
        finally:
            dropping.cancel()
            await asyncio.gather(dropping, return_exceptions=True)


async def make_clip(photos: list[Path]) -> bytes | None:
    """Returns a clip that is made of two of the photos; None if the packages for clips are not installed."""
    if find_spec("av") is None:
        return None
    by_name = {photo.name: str(photo) for photo in photos}
    async with Sandbox("deploy.demo_clip:make", seconds=CLIP_SECONDS) as sandbox:
        clip: bytes = await sandbox.run(*(by_name[name] for name in CLIP_PHOTOS))
        return clip


async def _drop(photos: list[Path], folder: Path, clip: bytes | None, clip_folder: Path) -> None:
    if clip:
        await asyncio.to_thread(_put, clip, clip_folder, "clip.mp4")
    for photo in photos:
        # The current time becomes the capture time.
        await asyncio.to_thread(_put, photo.read_bytes(), folder, photo.name)
        await asyncio.sleep(PAUSE_SECONDS)


def _put(content: bytes, folder: Path, name: str) -> None:
    """The rename makes the file appear complete, like an upload. A date in its name would be one
    of the time zone of the camera."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{uuid4().hex}.part"
    partial.write_bytes(content)
    partial.rename(folder / f"{time.time():.0f}-{name}")


def _is_assessed_event_of(folder: Path, event: Event) -> bool:
    return event.camera_name == folder.name and event.HasField("assessment")


def clip_command(config: Config, event_id: str) -> str:
    """How to look at the clip of an event."""
    scheme = "https" if config.has_tls else "http"
    key = config.home / "admin.key"
    url = f"{scheme}://{config.gateway_listen}/events/{event_id}/clip"
    trust = f"--cacert {quote(str(authority))} " if (authority := own_authority(config)) else ""
    return f'its clip: curl {trust}-H "X-API-Key: $(cat {quote(str(key))})" -o event.mp4 {url}'


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
