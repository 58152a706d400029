"""`lares demo`: sample photos for a camera of a running Lares, and the events they become."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import grpc

from deploy.keys import saying_where
from deploy.samples import sample_photos
from lares.reason.v1.assessment_pb2 import Severity
from lares.store.v1 import event_service_pb2 as events
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from lares.store.v1.event_pb2 import EventStatus
from lares.store.v1.events_pb2 import EventChanged
from mesh.config import Config, split_address
from mesh.rpc import API_KEY, Metadata, call, stream

PAUSE_SECONDS = 2.0
# An event closes 30 s after its last photo and is judged then, if not at once.
AFTER_SECONDS = 40.0


async def show(config: Config, camera: str) -> None:
    """Drops the samples, one every two seconds, and prints each change of an event until all is quiet."""
    photos = await asyncio.to_thread(sample_photos, config.cache)
    folder = config.cameras_folder / camera
    async with event_service(config) as (stub, key):
        # Answers at once that no Lares runs here, before a folder is made.
        head = (await call(stub.GetStoreStatus, events.GetStoreStatusRequest(), headers=key)).sequence
        print(f"Dropping {len(photos)} photos into {folder}, one every {PAUSE_SECONDS:g} s.")
        dropping = asyncio.create_task(_drop(photos, folder))
        try:
            async with asyncio.timeout(len(photos) * PAUSE_SECONDS + AFTER_SECONDS):
                request = events.WatchEventsRequest(after=head)
                async for answer in stream(stub.WatchEvents, request, headers=key):
                    print(line(answer.change), flush=True)
        except TimeoutError:
            print("Done. The events stay: see `events` in GraphQL.")
        finally:
            dropping.cancel()
            await asyncio.gather(dropping, return_exceptions=True)


@asynccontextmanager
async def event_service(config: Config) -> AsyncIterator[tuple["events_rpc.EventServiceAsyncStub", Metadata]]:
    """The events of the Lares that runs on this home, as any client sees them, and the admin key to send.
    Raises Unavailable, where nobody listens NOT_RUNNING."""
    host, port = split_address(config.grpc_listen)
    address = f"localhost:{port}" if host in ("0.0.0.0", "::") else config.grpc_listen  # noqa: S104
    file = config.home / "admin.key"
    key = ((API_KEY, file.read_text().strip()),) if file.exists() else ()
    async with _channel(config, address) as channel:
        with saying_where(f"on {config.home} and serves {address}"):
            yield events_rpc.EventServiceStub(channel), key


def _channel(config: Config, address: str) -> grpc.aio.Channel:
    """With TLS, the certificate must be good for the address that is listened on."""
    if not config.tls_cert:
        return grpc.aio.insecure_channel(address)
    roots = (config.tls_ca or config.tls_cert).read_bytes()
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(roots))


async def _drop(photos: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        # A fresh capture time each run; moved into place as a camera's upload would be.
        partial = folder / f".{uuid4().hex}.part"
        await asyncio.to_thread(shutil.copyfile, photo, partial)
        os.utime(partial)
        partial.rename(folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{photo.name}")
        await asyncio.sleep(PAUSE_SECONDS)


def line(change: EventChanged) -> str:
    """One change as a person reads it."""
    event = change.event
    status = EventStatus.Name(event.status).removeprefix("EVENT_STATUS_")
    text = (
        f"#{change.sequence} {event.started_at.ToDatetime():%H:%M:%S} {event.camera_name}: "
        f"{', '.join(event.labels)} ({event.detection_count} found) {status}"
    )
    if event.HasField("assessment"):
        assessment = event.assessment
        severity = Severity.Name(assessment.severity).removeprefix("SEVERITY_")
        text += f" | risk {assessment.score} {severity}: {assessment.summary}"
    return text
