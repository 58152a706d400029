"""detect_svc as the composition root opens it, with a real broker, a real detector and gRPC over a socket."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from detect_svc import service
from lares.detect.internal.v1.progress_service_pb2 import GetProgressRequest
from lares.detect.internal.v1.progress_service_pb2_grpc import ProgressServiceStub
from lares.detect.v1 import detect_service_pb2 as messages
from lares.detect.v1 import detect_service_pb2_grpc as rpc
from lares.ingest.v1.events_pb2 import MediaIngested
from lares.ingest.v1.media_pb2 import Media
from lares.store.internal.v1.job_service_pb2 import JOB_KIND_RENDER
from lares.store.internal.v1.job_service_pb2_grpc import add_JobServiceServicer_to_server
from lares.store.internal.v1.offset_service_pb2_grpc import add_OffsetServiceServicer_to_server
from mesh.blobs import FileBlobs
from mesh.bus import Bus
from mesh.config import load_config
from mesh.identity import detection_id, media_id
from mesh.key_verifier import KeyVerifier
from mesh.mesh import Mesh
from mesh.problems import Invalid
from mesh.rpc import Channels, GrpcServer, call
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door
from mesh.topics import DETECTED, INGESTED
from store_svc.api.offsets import OffsetServicer
from store_svc.consumer_offsets import ConsumerOffsets
from store_svc.database import Database, open_database
from tests.support.blobs import keep_blob
from tests.support.fake_job_service import FakeJobService
from tests.support.parts import MIGRATED, fresh_database
from tests.support.photos import person_photo
from tests.support.records import unique
from tests.support.waiting import until_async

pytestmark = pytest.mark.usefixtures("calling_as_itself")


@pytest.fixture(scope="module")
async def database(bus: Bus, postgres_server: str) -> AsyncIterator[Database]:
    """The store's, for the offsets of detect_svc: after what other tests have announced."""
    async with fresh_database(postgres_server, MIGRATED) as url, open_database(url) as database:
        topic_id, ends = await bus.topic_id(INGESTED), await bus.ends(INGESTED)
        await ConsumerOffsets(database).advance("detect_svc", INGESTED.name, topic_id, ends)
        yield database


@pytest.fixture(scope="module")
async def mesh(bus: Bus, database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    config, folder = load_config(), tmp_path_factory.mktemp("detect")
    socket = f"unix:{folder / 'mesh.sock'}"
    async with AsyncExitStack() as stack:
        channels = Channels({}, {"detect": socket, "store": socket})
        stack.push_async_callback(channels.close)
        server, blobs = GrpcServer(CallInterceptor), FileBlobs(folder / "media")
        stack.callback(blobs.close)
        mesh = Mesh(config, bus, blobs, server, channels, KeyVerifier(channels.to("store")))
        await server.listen(socket, door=Door.SIBLINGS)
        await stack.enter_async_context(service.open(config, mesh))
        offsets = OffsetServicer(ConsumerOffsets(database))
        server.add(add_OffsetServiceServicer_to_server, offsets, "lares.store.internal.v1.OffsetService")
        jobs = FakeJobService(JOB_KIND_RENDER)
        server.add(add_JobServiceServicer_to_server, jobs, "lares.store.internal.v1.JobService")
        await server.start()
        stack.push_async_callback(server.stop, 1.0)
        yield mesh


@pytest.fixture(scope="module")
async def stub(mesh: Mesh) -> "rpc.DetectServiceAsyncStub":
    return rpc.DetectServiceStub(mesh.channel("detect"))


async def test_it_is_ready_and_describes_its_detector(mesh: Mesh, stub: "rpc.DetectServiceAsyncStub") -> None:
    assert await mesh.missing() == {}
    response = await call(stub.GetDetector, messages.GetDetectorRequest())
    assert response.detector.startswith("efficientdet-lite0@0720bf247bd7")
    assert (response.threshold, response.fast_threshold) == pytest.approx((0.5, 0.6))


async def test_a_photo_on_the_topic_becomes_a_frame_with_all_findings(
    mesh: Mesh, stub: "rpc.DetectServiceAsyncStub"
) -> None:
    photo = person_photo().read_bytes()
    sha256, camera = hashlib.sha256(photo).hexdigest(), unique("cam")
    await keep_blob(mesh.blobs, photo)
    async with mesh.bus.tail(DETECTED) as tail, asyncio.timeout(90):
        media = Media(id=media_id(camera, sha256), camera_id=camera, sha256=sha256)
        await mesh.bus.publish(INGESTED, MediaIngested(media=media))
        while (message := (await anext(tail)).message).media.camera_id != camera:
            pass
    (frame,) = message.frames
    assert (frame.width, frame.height) == (1920, 1080)
    assert sum(one.score >= 0.5 for one in frame.detections) == 4
    assert len(frame.detections) > 4
    assert 0.1 <= min(one.score for one in frame.detections) < 0.3

    async def detect(**request: Any) -> list[str]:
        response = await call(stub.DetectObjects, messages.DetectObjectsRequest(image=photo, **request))
        return [one.id for one in response.detections]

    # A request with the same photo and camera returns the same detections, with the same ids.
    assert await detect(camera_id=camera, min_score=0) == [
        detection_id(media.id, 0, one.rank, message.detector) for one in frame.detections
    ]
    assert len(await detect()) == 4
    assert await detect(labels=["dog"]) == []
    with pytest.raises(Invalid, match="cannot find burglar"):
        await detect(labels=["burglar"])
    status = await call(stub.GetDetectStatus, messages.GetDetectStatusRequest())
    assert status.lag >= 0


async def test_its_offsets_are_in_the_store_and_it_says_how_far_it_has_come(
    mesh: Mesh, database: Database, stub: "rpc.DetectServiceAsyncStub"
) -> None:
    photo, camera = person_photo().read_bytes(), unique("cam")
    sha256 = hashlib.sha256(photo).hexdigest()
    await keep_blob(mesh.blobs, photo)
    media = Media(id=media_id(camera, sha256), camera_id=camera, sha256=sha256)
    async with mesh.bus.tail(INGESTED) as announced, asyncio.timeout(90):
        await mesh.bus.publish(INGESTED, MediaIngested(media=media))
        record = await anext(announced)
    topic_id, partitions = await mesh.bus.topic_id(INGESTED), [record.partition]

    async def passed() -> bool:
        offsets = await ConsumerOffsets(database).load("detect_svc", INGESTED.name, topic_id, partitions)
        return offsets.get(record.partition, 0) > record.offset

    await until_async(passed)
    progress = ProgressServiceStub(mesh.channel("detect"))
    response = await call(progress.GetProgress, GetProgressRequest())
    assert response.processed[record.partition] == record.offset + 1
    assert response.published[record.partition] == record.offset + 1


async def test_list_gpus_returns_the_gpus_or_the_reason(stub: "rpc.DetectServiceAsyncStub") -> None:
    async with asyncio.timeout(90):
        while True:
            response = await call(stub.ListGpus, messages.ListGpusRequest(minutes=1))
            if response.detail != "not read yet":
                break
            await asyncio.sleep(0.05)
    assert bool(response.gpus) != bool(response.detail)
    assert all(gpu.uuid and gpu.history for gpu in response.gpus)


async def test_a_bad_image_is_refused(stub: "rpc.DetectServiceAsyncStub") -> None:
    with pytest.raises(Invalid) as refused:
        await call(
            stub.DetectObjects, messages.DetectObjectsRequest(image=person_photo().read_bytes()[:9000])
        )
    assert refused.value.reason == "TRUNCATED"
    with pytest.raises(Invalid) as refused:
        await call(stub.DetectObjects, messages.DetectObjectsRequest())
    assert refused.value.reason == "BAD_REQUEST"
