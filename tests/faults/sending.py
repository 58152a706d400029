"""Sends the load to a Lares, whole or a cluster, and waits until the store has it, whatever fails
meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import grpc
from google.protobuf.duration_pb2 import Duration

from lares.ingest.v1.ingest_service_pb2 import GetUploadRequest, UploadHeader, UploadMediaRequest
from lares.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from lares.store.v1.rendition_pb2 import (
    RENDITION_KIND_FRAMES,
    RENDITION_STATE_FAILED,
    RENDITION_STATE_READY,
)
from lares.store.v1.rendition_service_pb2 import RequestRenditionRequest
from lares.store.v1.rendition_service_pb2_grpc import RenditionServiceStub
from tests.faults.load import Item

# An upload arrives in chunks of so many bytes, or in so many if that makes larger ones.
CHUNK_BYTES, CHUNKS = 2**14, 50
POLL_SECONDS, LOOK_SECONDS = 0.05, 10.0
CALL_SECONDS = 15.0
PAUSE_SECONDS = 0.2

_MEDIA = "SELECT id::text FROM media WHERE id = ANY($1::uuid[])"
_REJECTIONS = "SELECT path FROM rejections WHERE path = ANY($1::text[])"


class Receiver(Protocol):
    """What the load is sent to."""

    @property
    def cameras(self) -> Path: ...

    @property
    def key(self) -> str: ...

    def grpc_channel(self, target: str = ...) -> grpc.aio.Channel: ...

    def database(self) -> AbstractAsyncContextManager[asyncpg.Connection]: ...


class Sender:
    """Sends items. `stored_at` has the monotonic time at which each was found in the store, by its path."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._waiting: dict[str, Item] = {}
        self.stored_at: dict[str, float] = {}
        self._looking = asyncio.create_task(self._look())
        self._found = asyncio.Condition()
        self.last_error = ""

    async def send(self, item: Item) -> None:
        """Returns when the store has it, and the rendition of a clip is ready. Does not give up."""
        self._waiting[item.path] = item
        if item.is_upload:
            await self._persist(lambda: self._upload(item))
        else:
            await asyncio.to_thread(item.put, self._receiver.cameras)
        async with self._found:
            await self._found.wait_for(lambda: item.path in self.stored_at)
        if item.kind == "clip":
            await self._persist(lambda: self._render(item))

    async def send_all(self, items: Sequence[Item], spread: float = 0.0) -> None:
        """Sends them at the same time, but each a little later than the one before: all within `spread`
        seconds."""

        async def later(place: int, item: Item) -> None:
            await asyncio.sleep(spread * place / len(items))
            await self.send(item)

        await asyncio.gather(*(later(place, item) for place, item in enumerate(items)))

    @property
    def missing(self) -> list[str]:
        """The paths of those that are sent and not stored."""
        return sorted(self._waiting)

    async def close(self) -> None:
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)

    async def _persist(self, attempt: Any) -> None:
        while True:
            try:
                if await attempt():
                    return
            except (grpc.aio.AioRpcError, OSError) as error:
                # Nobody knows whether it was heard: doing it again changes nothing.
                self.last_error = repr(error)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _upload(self, item: Item) -> bool:
        """Goes on where an earlier attempt was interrupted."""
        content = item.content
        header = UploadHeader(camera_id=item.camera, sha256=item.sha256, size_bytes=len(content))
        header.captured_at.FromMilliseconds(round(item.captured_at * 1000))
        metadata = (("x-api-key", self._receiver.key),)
        size = max(CHUNK_BYTES, len(content) // CHUNKS)

        async def chunks() -> AsyncIterator[UploadMediaRequest]:
            yield UploadMediaRequest(header=header)
            for start in range(header.offset, len(content), size):
                yield UploadMediaRequest(chunk=content[start : start + size])
                await asyncio.sleep(0.01)

        async with self._channel("ingest") as channel:
            stub = IngestServiceStub(channel)
            begun = GetUploadRequest(camera_id=item.camera, sha256=item.sha256)
            received = await stub.GetUpload(begun, metadata=metadata, timeout=CALL_SECONDS)
            header.offset = received.received_bytes
            await stub.UploadMedia(chunks(), metadata=metadata, timeout=CALL_SECONDS)
        return True

    async def _render(self, item: Item) -> bool:
        request = RequestRenditionRequest(
            kind=RENDITION_KIND_FRAMES, subject_id=item.media_id, wait=Duration(seconds=3)
        )
        async with self._channel("store") as channel:
            answer = await RenditionServiceStub(channel).RequestRendition(
                request, metadata=(("x-api-key", self._receiver.key),), timeout=CALL_SECONDS
            )
        assert answer.rendition.state != RENDITION_STATE_FAILED, answer.rendition.failure
        return answer.rendition.state == RENDITION_STATE_READY

    @asynccontextmanager
    async def _channel(self, target: str) -> AsyncIterator[grpc.aio.Channel]:
        async with self._receiver.grpc_channel(target) as channel:
            yield channel

    async def _look(self) -> None:
        """Looks into the database for what is waited for, over a connection of its own."""
        while True:
            try:
                async with self._receiver.database() as connection:
                    while True:
                        async with asyncio.timeout(LOOK_SECONDS):
                            await self._look_once(connection)
                        await asyncio.sleep(POLL_SECONDS)
            except Exception as error:  # asyncpg has many, some of them internal, for a server that is killed
                self.last_error = repr(error)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _look_once(self, connection: asyncpg.Connection) -> None:
        waiting = [*self._waiting.values()]
        media = {item.media_id: item for item in waiting if not item.is_rejected}
        rejected = {item.path: item for item in waiting if item.is_rejected}
        found = [media[row[0]] for row in await connection.fetch(_MEDIA, [*media])] if media else []
        if rejected:
            found += [rejected[row[0]] for row in await connection.fetch(_REJECTIONS, [*rejected])]
        if found:
            async with self._found:
                for item in found:
                    self.stored_at[item.path] = time.monotonic()
                    self._waiting.pop(item.path, None)
                self._found.notify_all()
