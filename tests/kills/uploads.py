"""Uploads while Lares is killed."""

import hashlib

from lares.ingest.v1.ingest_service_pb2 import UploadHeader, UploadMediaRequest
from lares.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from tests.kills.scenario import Drop
from tests.support.lares import Lares

CHUNK_BYTES = 2**16


async def upload(lares: Lares, drop: Drop) -> bool:
    """Uploads it with its capture time. Doing it again changes nothing."""
    content = drop.content()
    header = UploadHeader(
        camera_id=drop.camera, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)
    )
    header.captured_at.FromMilliseconds(round(drop.captured_at * 1000))
    parts = [UploadMediaRequest(header=header)]
    for start in range(0, len(content), CHUNK_BYTES):
        parts.append(UploadMediaRequest(chunk=content[start : start + CHUNK_BYTES]))
    async with lares.grpc_channel() as channel:
        metadata = (("x-api-key", lares.key),)
        await IngestServiceStub(channel).UploadMedia(iter(parts), metadata=metadata, timeout=30)
    return True
