"""Records MediaRejected: files and media that were refused. Such a file is not read again in this state."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from lares.ingest.v1.events_pb2 import MediaRejected
from mesh.delivery import Delivery
from mesh.topics import REJECTED
from store_svc.database.statement import Connection, Statement, one_of
from store_svc.database.tables import cameras, rejections
from store_svc.ids import file_id
from store_svc.recording.record_fields import read_time, read_uuid
from store_svc.recording.recorder import WRITE_FILES, Effect, file_values
from store_svc.times import moment

_WRITE = Statement(insert(rejections).on_conflict_do_nothing())
_WRITE_FILES = Statement(WRITE_FILES)
_DELETED_CAMERAS = Statement(
    select(cameras.c.id).where(one_of(cameras.c.id, "ids"), cameras.c.deleted_at.is_not(None))
)


@dataclass(frozen=True, slots=True)
class RejectionRecord:
    """`row` is the row of the table `rejections` without its time of recording; `file` is the id and path for
    the table `files`, if the rejection is of a file."""

    camera_id: str
    row: Mapping[str, object]
    file: tuple[UUID, str] | None


class MediaRejectedRecorder:
    topic = REJECTED

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock

    def read(self, delivery: Delivery[MediaRejected]) -> RejectionRecord:
        message = delivery.message
        file = message.file
        row = {
            "id": read_uuid(message.rejection_id, "rejection_id"),
            "camera_id": message.camera_id,
            "path": file.path,
            "size_bytes": file.size_bytes,
            "mtime_ns": file.mtime_ns,
            "reason": message.reason,
            "detail": message.detail,
            "rejected_at": moment(read_time(message.rejected_at, "rejected_at")),
            "media_id": read_uuid(message.media_id, "media_id") if message.media_id else None,
        }
        known = (file_id(file), file.path) if message.HasField("file") else None
        return RejectionRecord(message.camera_id, row, known)

    async def write(self, connection: Connection, items: Sequence[RejectionRecord]) -> Effect:
        now = self._clock()
        ids = list({item.camera_id for item in items})
        deleted = {row["id"] for row in await _DELETED_CAMERAS.fetch(connection, ids=ids)}
        kept = [item for item in items if item.camera_id not in deleted]
        await _WRITE.execute_many(connection, [{**item.row, "recorded_at": now} for item in kept])
        await _WRITE_FILES.execute(connection, **file_values(item.file for item in kept))
        return Effect()
