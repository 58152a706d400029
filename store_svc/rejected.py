"""Records MediaRejected: files that were refused, and never looked at again in this state."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from lares.ingest.v1.events_pb2 import MediaRejected
from mesh.delivery import Delivery
from mesh.topics import REJECTED
from store_svc.files import file_id
from store_svc.recording import Effect, write_files
from store_svc.records import time, uuid
from store_svc.times import moment

_WRITE = """
INSERT INTO rejections
    (id, camera_id, path, size_bytes, mtime_ns, reason, detail, rejected_at, media_id, recorded_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """`row` is the rejection's but for its time of recording, `file` the one in `files`, if any."""

    camera_id: str
    row: tuple[object, ...]
    file: tuple[UUID, str] | None


class RejectedRecorder:
    topic = REJECTED

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock

    def read(self, delivery: Delivery[MediaRejected]) -> Refusal:
        message = delivery.message
        file = message.file
        row = (
            uuid(message.rejection_id, "rejection_id"),
            message.camera_id,
            file.path,
            file.size_bytes,
            file.mtime_ns,
            message.reason,
            message.detail,
            moment(time(message.rejected_at, "rejected_at")),
            uuid(message.media_id, "media_id") if message.media_id else None,
        )
        known = (file_id(file), file.path) if message.HasField("file") else None
        return Refusal(message.camera_id, row, known)

    async def write(self, connection: "asyncpg.Connection", items: Sequence[Refusal]) -> Effect:
        now = self._clock()
        deleted = await connection.fetch(
            "SELECT id FROM cameras WHERE id = ANY($1::text[]) AND deleted_at IS NOT NULL",
            list({item.camera_id for item in items}),
        )
        gone = {row["id"] for row in deleted}
        kept = [item for item in items if item.camera_id not in gone]
        await connection.executemany(_WRITE, [(*item.row, now) for item in kept])
        await write_files(connection, (item.file for item in kept))
        return Effect()
