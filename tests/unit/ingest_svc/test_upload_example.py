"""The example's upload against a server that fails."""

import asyncio
from pathlib import Path

import grpc
import pytest

from examples import grpc_client
from lares.ingest.v1.ingest_service_pb2 import UploadHeader
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.unit.ingest_svc.test_uploads import serving


async def test_the_example_sends_the_rest_after_a_failure(
    harness: IngestHarness,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(jpeg("one", pixels=b"\x12" * 9000))
    offsets = list[int]()
    store = harness.blobs._store

    async def fails_once(spooled: object) -> None:
        if len(offsets) == 1:
            raise OSError(28, "No space left on device")
        await store(spooled)  # type: ignore[arg-type]

    def noted(header: UploadHeader, file: object) -> object:
        offsets.append(header.offset)
        return requests(header, file)  # type: ignore[arg-type]

    requests = grpc_client.upload_requests
    monkeypatch.setattr(harness.blobs, "_store", fails_once)
    monkeypatch.setattr(grpc_client, "upload_requests", noted)
    monkeypatch.setattr(grpc_client, "RETRY_SECONDS", 0.0)
    async with serving(harness) as stub:
        monkeypatch.setattr(grpc_client, "IngestServiceStub", lambda _: stub)
        channel = grpc.insecure_channel("127.0.0.1:1")
        await asyncio.to_thread(grpc_client.upload, channel, (), "porch", photo)
    assert offsets == [0, photo.stat().st_size]
    (media,) = harness.bus.media
    assert capsys.readouterr().out.endswith(f"media {media.id}\n")
