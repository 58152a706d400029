"""Records MediaRendered: renditions that were made, and attempts that failed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from lares.detect.v1.events_pb2 import MediaRendered, RenderedBlob, RenderFailure
from mesh.blobs import Blobs
from mesh.delivery import Delivery
from mesh.problems import NotFound
from mesh.topics import RENDERED
from store_svc.database.statement import Connection
from store_svc.domain.rendition import QueuedRendition
from store_svc.recording.record_fields import bad_record, read_uuid
from store_svc.recording.recorder import Effect
from store_svc.renditions.rendition_rows import lock_digests, lock_renditions, write_renditions
from store_svc.renditions.unused_blobs import SHA256, add_unused_blobs

_BLOB_GONE = RenderFailure(reason="BLOB_NOT_FOUND", detail="What was made is gone.")


@dataclass(frozen=True, slots=True)
class RenderRecord:
    """One MediaRendered that was checked: it has a blob or a failure."""

    rendition_id: UUID
    blob: RenderedBlob | None
    failure: RenderFailure | None


class MediaRenderedRecorder:
    """The first content of a rendition counts. Content that nothing refers to afterwards, because it came
    late, is deleted.

    Under the lock of its digest, a blob is looked for before anything refers to it: it may have been deleted
    since it was put, together with another rendition of the same content. Then the attempt has failed.
    """

    topic = RENDERED

    def __init__(self, blobs: Blobs, clock: Callable[[], datetime]) -> None:
        self._blobs = blobs
        self._clock = clock

    def read(self, delivery: Delivery[MediaRendered]) -> RenderRecord:
        message = delivery.message
        rendition_id = read_uuid(message.rendition_id, "rendition_id")
        blob = failure = None
        match message.WhichOneof("outcome"):
            case "blob":
                blob = message.blob
                if not SHA256.fullmatch(blob.sha256) or blob.size_bytes < 0:
                    raise bad_record("the blob has no SHA-256 or no size")
                for part in blob.parts:
                    if not 0 <= part.offset <= part.offset + part.size_bytes <= blob.size_bytes:
                        raise bad_record("a part lies beyond the blob")
                blob.DiscardUnknownFields()
            case "failure":
                failure = message.failure
                read_uuid(failure.id, "failure's id")
                failure.DiscardUnknownFields()
            case _:
                raise bad_record("the record has no outcome")
        return RenderRecord(rendition_id, blob, failure)

    async def write(self, connection: Connection, items: Sequence[RenderRecord]) -> Effect:
        now = self._clock()
        digests = {item.blob.sha256 for item in items if item.blob}
        await lock_digests(connection, digests)
        there = {sha256 for sha256 in digests if await self._exists(sha256)}
        found = await lock_renditions(connection, {item.rendition_id for item in items})
        changed: dict[UUID, QueuedRendition] = {}
        unused: dict[str, datetime] = {}
        for item in items:
            queued = found.get(item.rendition_id)
            if item.blob and item.blob.sha256 in there:
                matters = queued is not None and queued.complete(item.blob, now)
                if not matters:
                    unused[item.blob.sha256] = now
            else:
                matters = queued is not None and queued.fail(item.failure or _BLOB_GONE, now)
            if queued and matters:
                changed[item.rendition_id] = queued
        await write_renditions(connection, list(changed.values()))
        await add_unused_blobs(connection, unused)
        waiting = [queued.job is not None for queued in changed.values()]
        return Effect(due=any(waiting), rendered=not all(waiting))

    async def _exists(self, sha256: str) -> bool:
        """Raises Unavailable: the record waits."""
        try:
            await self._blobs.size(sha256)
        except NotFound:
            return False
        return True
