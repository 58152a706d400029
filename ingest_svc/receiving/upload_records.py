"""What the store knows of uploads (lares.store.internal.v1.UploadService): how far they have come, and which
process receives them. Every process of ingest_svc asks the same store, so any can go on."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

import grpc

from ingest_svc.leases import Lease, Leases, length
from lares.store.internal.v1 import upload_service_pb2 as pb
from lares.store.internal.v1.upload_service_pb2_grpc import UploadServiceStub
from mesh.blobs.parts import StoredPart
from mesh.lease_clock import lease_time
from mesh.problems import Unavailable
from mesh.retry import retry
from mesh.rpc import call
from mesh.security import as_itself

# After a kill, others can go on with an upload when its lease has expired.
LEASE_SECONDS = 15.0
# For how long a store that restarts is waited for, and for an answer.
STORE_SECONDS, ANSWER_SECONDS = 20.0, 5.0
# The most uploads in one request.
PAGE = 1000

Response = TypeVar("Response")


class UploadKey(NamedTuple):
    """Names an upload of one caller. Without `sha256`, which is not known then, nobody can go on with it."""

    caller_id: str
    camera_id: str
    sha256: str


class Received(NamedTuple):
    size: int
    expires_at: datetime | None


@dataclass(frozen=True)
class BegunUpload:
    """`parts` have arrived. `forgotten` are ids of uploads whose parts are of no use any more."""

    id: str
    lease: Lease
    parts: list[StoredPart]
    arrived_at: datetime
    forgotten: Collection[str]


class UploadRecords:
    """`quota` is the most bytes that the uploads of one camera may take. All methods raise Unavailable
    STORE_AWAY, and those of a lease Conflict UPLOAD_TAKEN_OVER once another goes on with the upload."""

    def __init__(self, store: grpc.aio.Channel, leases: Leases, quota: int) -> None:
        self._store, self._leases, self._quota = UploadServiceStub(store), leases, quota

    async def begin(self, key: UploadKey, size: int, offset: int) -> BegunUpload:
        """Raises Exhausted UPLOAD_IN_PROGRESS or UPLOAD_QUOTA, Conflict OFFSET_MISMATCH."""
        asked = lease_time()
        request = pb.BeginUploadRequest(
            caller_id=key.caller_id,
            camera_id=key.camera_id,
            sha256=key.sha256,
            size_bytes=size,
            offset=offset,
            quota_bytes=self._quota,
            holder=self._leases.holder,
            lease_length=length(LEASE_SECONDS),
        )
        begun = await _asked(lambda: call(self._store.BeginUpload, request, timeout=ANSWER_SECONDS))
        return BegunUpload(
            begun.upload_id,
            self._leases.keep(begun.lease_token, LEASE_SECONDS, asked),
            [StoredPart(part.name, part.size_bytes) for part in begun.parts],
            begun.arrived_at.ToDatetime(UTC),
            begun.forgotten_ids,
        )

    async def reserve(self, lease: Lease, size: int) -> Collection[str]:
        """Returns the uploads that have given way. Raises Exhausted UPLOAD_QUOTA."""
        request = pb.ReserveUploadRequest(lease_token=lease.token, size_bytes=size, quota_bytes=self._quota)
        answer = await _asked(lambda: call(self._store.ReserveUpload, request, timeout=ANSWER_SECONDS))
        return answer.forgotten_ids

    async def add_part(self, lease: Lease, start: int, part: StoredPart) -> None:
        request = pb.AddUploadPartRequest(
            lease_token=lease.token, start=start, part=pb.UploadPart(name=part.name, size_bytes=part.size)
        )
        await _asked(lambda: call(self._store.AddUploadPart, request, timeout=ANSWER_SECONDS))

    async def first_arrival(self, lease: Lease, sha256: str) -> datetime:
        """When a content that was not declared arrived for the first time."""
        request = pb.NameUploadRequest(lease_token=lease.token, sha256=sha256)
        answer = await _asked(lambda: call(self._store.NameUpload, request, timeout=ANSWER_SECONDS))
        return answer.arrived_at.ToDatetime(UTC)

    async def end(self, lease: Lease, *, keep: bool) -> None:
        self._leases.forget(lease)
        request = pb.EndUploadRequest(lease_token=lease.token, keep=keep)
        await _asked(lambda: call(self._store.EndUpload, request, timeout=ANSWER_SECONDS))

    async def find(self, key: UploadKey) -> Received:
        request = pb.FindUploadRequest(caller_id=key.caller_id, camera_id=key.camera_id, sha256=key.sha256)
        found = await _asked(lambda: call(self._store.FindUpload, request, timeout=ANSWER_SECONDS))
        expires_at = found.expires_at.ToDatetime(UTC) if found.HasField("expires_at") else None
        return Received(found.received_bytes, expires_at)

    async def expire(self, ids: Collection[str]) -> set[str]:
        """Forgets uploads with which nobody goes on. Returns which of at most PAGE uploads are left."""
        request = pb.ExpireUploadsRequest(upload_ids=ids)
        answer = await _asked(lambda: call(self._store.ExpireUploads, request, timeout=ANSWER_SECONDS))
        return set(answer.upload_ids)


async def _asked(ask: Callable[[], Awaitable[Response]]) -> Response:
    """Repeats a request while the store is away, for a while: it may be restarting. The request is made as
    the service itself, whoever uploads."""
    try:
        with as_itself():
            async with asyncio.timeout(STORE_SECONDS):
                return await retry(ask, "asking the store about an upload", retry_on=_is_away)
    except TimeoutError:
        raise Unavailable("the store does not answer", "STORE_AWAY") from None


def _is_away(error: Exception) -> bool:
    return isinstance(error, Unavailable)
