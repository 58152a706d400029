"""The store's leases and uploads in memory, for tests of ingest_svc without a database. They pass the suite
that the store itself passes (tests/contract/test_store_leases.py, test_store_uploads.py)."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from google.protobuf.timestamp_pb2 import Timestamp

from lares.store.internal.v1 import lease_service_pb2 as leases_pb
from lares.store.internal.v1 import upload_service_pb2 as pb
from lares.store.internal.v1.lease_service_pb2_grpc import (
    LeaseServiceServicer,
    add_LeaseServiceServicer_to_server,
)
from lares.store.internal.v1.upload_service_pb2_grpc import (
    UploadServiceServicer,
    add_UploadServiceServicer_to_server,
)
from mesh.problems import Conflict, Exhausted, Unavailable
from mesh.rpc import GrpcServer

KEPT_SECONDS, GIVES_WAY_SECONDS = 24 * 3600.0, 3600.0


@dataclass
class HeldLease:
    token: int
    holder: str
    seconds: float
    until: float


@dataclass
class FakeUpload:
    """`parts` are (start, part)."""

    id: str
    caller_id: str
    camera_id: str
    sha256: str
    size: int
    token: int
    arrived_at: float
    written_at: float
    parts: list[tuple[int, pb.UploadPart]] = field(default_factory=list)

    @property
    def received(self) -> int:
        return sum(part.size_bytes for _, part in self.parts)


class FakeLeaseService(LeaseServiceServicer):
    """`age` makes all leases older by so many seconds."""

    def __init__(self) -> None:
        self.leases: dict[str, HeldLease] = {}
        self._tokens = 0

    def take(self, name: str, holder: str, seconds: float) -> int:
        found = self.leases.get(name)
        if found is not None and found.until > time.time() and found.holder != holder:
            return 0
        self.leases[name] = HeldLease(self._next(), holder, seconds, time.time() + seconds)
        return self._tokens

    def is_held(self, token: int) -> bool:
        return any(lease.token == token and lease.until > time.time() for lease in self.leases.values())

    def remove(self, tokens: Iterable[int]) -> None:
        self.leases = {name: lease for name, lease in self.leases.items() if lease.token not in {*tokens}}

    async def TakeLease(self, request: leases_pb.TakeLeaseRequest, context: Any) -> Any:
        token = self.take(request.name, request.holder, request.length.ToTimedelta().total_seconds())
        return leases_pb.TakeLeaseResponse(token=token, holder=self.leases[request.name].holder)

    async def ExtendLeases(self, request: leases_pb.ExtendLeasesRequest, context: Any) -> Any:
        held = [lease for lease in self.leases.values() if lease.token in request.tokens]
        for lease in held:
            lease.until = time.time() + lease.seconds
        return leases_pb.ExtendLeasesResponse(tokens=[lease.token for lease in held])

    async def EndLeases(self, request: leases_pb.EndLeasesRequest, context: Any) -> Any:
        for lease in self.leases.values():
            if lease.token in request.tokens:
                lease.token, lease.until = self._next(), time.time()
        return leases_pb.EndLeasesResponse()

    async def GetLease(self, request: leases_pb.GetLeaseRequest, context: Any) -> Any:
        found = self.leases.get(request.name)
        if found is None:
            return leases_pb.GetLeaseResponse()
        held = found.until > time.time()
        return leases_pb.GetLeaseResponse(holder=found.holder, held=held, expires_at=timestamp(found.until))

    def _next(self) -> int:
        self._tokens += 1
        return self._tokens


class FakeUploadService(UploadServiceServicer):
    """It fails `failures` times, as a store that restarts."""

    def __init__(self) -> None:
        self.leases = FakeLeaseService()
        self.failures = 0
        self.uploads: list[FakeUpload] = []

    def age(self, upload: FakeUpload, seconds: float) -> None:
        """Makes it as if nothing had arrived for so long."""
        upload.written_at -= seconds

    async def BeginUpload(self, request: pb.BeginUploadRequest, context: Any) -> Any:
        found = self._find(request.caller_id, request.camera_id, request.sha256)
        if found is not None and self.leases.is_held(found.token):
            raise Exhausted("another connection sends the same upload", "UPLOAD_IN_PROGRESS")
        kept = found if found is not None and not self._is_expired(found) else None
        received = kept.received if kept else 0
        if request.offset not in (0, received):
            raise Conflict("not so much has arrived", "OFFSET_MISMATCH", received_bytes=str(received))
        forgotten = self._make_room(request.camera_id, found, request.size_bytes, request.quota_bytes)
        seconds, now = request.lease_length.ToTimedelta().total_seconds(), time.time()
        if kept is not None and request.offset:
            kept.token = self.leases.take(f"upload/{kept.id}", request.holder, seconds)
            kept.size = request.size_bytes
            return _begun(kept, forgotten)
        if found is not None:
            self.uploads.remove(found)
            forgotten.append(found.id)
        id = str(uuid4())
        token = self.leases.take(f"upload/{id}", request.holder, seconds)
        upload = FakeUpload(
            id,
            request.caller_id,
            request.camera_id,
            request.sha256,
            request.size_bytes,
            token,
            kept.arrived_at if kept else now,
            now,
        )
        self.uploads.append(upload)
        return _begun(upload, forgotten)

    async def ReserveUpload(self, request: pb.ReserveUploadRequest, context: Any) -> Any:
        upload = self._received(request.lease_token)
        forgotten = self._make_room(upload.camera_id, upload, request.size_bytes, request.quota_bytes)
        upload.size = request.size_bytes
        return pb.ReserveUploadResponse(forgotten_ids=forgotten)

    async def AddUploadPart(self, request: pb.AddUploadPartRequest, context: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise Unavailable("the database restarts", "DATABASE_UNAVAILABLE")
        upload = self._received(request.lease_token)
        if (request.start, request.part) not in upload.parts:
            if request.start != upload.received:
                raise _taken_over()
            upload.parts.append((request.start, request.part))
            upload.written_at = time.time()
        return pb.AddUploadPartResponse()

    async def NameUpload(self, request: pb.NameUploadRequest, context: Any) -> Any:
        upload = self._received(request.lease_token)
        same = self._find(upload.caller_id, upload.camera_id, request.sha256)
        arrived_at = upload.arrived_at
        if same is not None:
            if not self._is_expired(same):
                arrived_at = min(arrived_at, same.arrived_at)
            if self.leases.is_held(same.token):
                return pb.NameUploadResponse(arrived_at=timestamp(arrived_at))
            self.uploads.remove(same)
        upload.sha256, upload.arrived_at = request.sha256, arrived_at
        return pb.NameUploadResponse(arrived_at=timestamp(arrived_at))

    async def EndUpload(self, request: pb.EndUploadRequest, context: Any) -> Any:
        if not request.keep:
            self.uploads = [one for one in self.uploads if one.token != request.lease_token]
        self.leases.remove([request.lease_token])
        return pb.EndUploadResponse()

    async def FindUpload(self, request: pb.FindUploadRequest, context: Any) -> Any:
        found = self._find(request.caller_id, request.camera_id, request.sha256)
        if found is None or self._is_expired(found) or not found.received:
            return pb.FindUploadResponse()
        expires_at = timestamp(found.written_at + KEPT_SECONDS)
        return pb.FindUploadResponse(received_bytes=found.received, expires_at=expires_at)

    async def ExpireUploads(self, request: pb.ExpireUploadsRequest, context: Any) -> Any:
        self.uploads = [
            one
            for one in self.uploads
            if self.leases.is_held(one.token) or (one.sha256 and not self._is_expired(one))
        ]
        left = [one.id for one in self.uploads if one.id in request.upload_ids]
        return pb.ExpireUploadsResponse(upload_ids=left)

    def _find(self, *key: str) -> FakeUpload | None:
        found = [one for one in self.uploads if (one.caller_id, one.camera_id, one.sha256) == key]
        return found[0] if found and key[2] else None

    def _received(self, token: int) -> FakeUpload:
        for upload in self.uploads:
            if upload.token == token:
                return upload
        raise _taken_over()

    def _is_expired(self, upload: FakeUpload) -> bool:
        return not self.leases.is_held(upload.token) and time.time() - upload.written_at >= KEPT_SECONDS

    def _make_room(self, camera_id: str, own: FakeUpload | None, size: int, quota: int) -> list[str]:
        others = [one for one in self.uploads if one.camera_id == camera_id and one is not own]
        others.sort(key=lambda one: one.written_at)
        giving_way = list[FakeUpload]()
        for one in others:
            used = sum(self._bytes(other) for other in others if other not in giving_way)
            idle = time.time() - one.written_at >= GIVES_WAY_SECONDS and not self.leases.is_held(one.token)
            if size <= quota < used + size and idle and one.received:
                giving_way.append(one)
        used = sum(self._bytes(other) for other in others if other not in giving_way)
        if used + size > quota:
            raise Exhausted(
                "too much",
                "UPLOAD_QUOTA",
                camera_id=camera_id,
                needed_bytes=str(size),
                used_bytes=str(used),
                quota_bytes=str(quota),
            )
        self.uploads = [one for one in self.uploads if one not in giving_way]
        return [one.id for one in giving_way]

    def _bytes(self, upload: FakeUpload) -> int:
        if self.leases.is_held(upload.token):
            return upload.size
        return 0 if self._is_expired(upload) else upload.received


def add_fake_leases(server: GrpcServer, uploads: FakeUploadService) -> None:
    package = "lares.store.internal.v1"
    server.add(add_LeaseServiceServicer_to_server, uploads.leases, f"{package}.LeaseService")
    server.add(add_UploadServiceServicer_to_server, uploads, f"{package}.UploadService")


def timestamp(seconds: float) -> Timestamp:
    found = Timestamp()
    found.FromNanoseconds(int(seconds * 1_000_000) * 1000)
    return found


def _begun(upload: FakeUpload, forgotten: list[str]) -> pb.BeginUploadResponse:
    return pb.BeginUploadResponse(
        upload_id=upload.id,
        lease_token=upload.token,
        parts=[part for _, part in upload.parts],
        arrived_at=timestamp(upload.arrived_at),
        forgotten_ids=forgotten,
    )


def _taken_over() -> Conflict:
    return Conflict("another connection has taken this upload over", "UPLOAD_TAKEN_OVER")
