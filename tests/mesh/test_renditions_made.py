"""The store's jobs and detect_svc's media worker together, on a real PostgreSQL, with a real clip."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from detect_svc.rendering.worker import RenderWorker
from lares.detect.v1.events_pb2 import MediaRendered
from lares.ingest.v1.media_pb2 import MEDIA_TYPE_MATROSKA
from lares.store.internal.v1.job_service_pb2 import JOB_KIND_RENDER
from lares.store.internal.v1.job_service_pb2_grpc import add_JobServiceServicer_to_server
from lares.store.v1.rendition_pb2 import RENDITION_STATE_READY
from mesh.job_client import JobClient
from mesh.retry import DEFAULT_BACKOFF
from mesh.rpc import Channels, GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Caller, Door, as_itself
from store_svc.api.jobs import JobServicer
from tests.support.clips import make_clip, walker_scene
from tests.support.facts import clip_reported, opened_by, photo
from tests.support.rendered_clips import seen
from tests.support.renditions import EVENT_CLIP, EVENT_PREVIEW, FRAMES, PLAYABLE, open_renditions
from tests.support.waiting import until_async


async def test_what_is_asked_for_is_made(postgres_url: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", walker_scene(8), audio=True)
    async with open_renditions(postgres_url, tmp_path / "blobs") as renditions:
        reported = clip_reported(1, 0, (0, 0.9), (2000, 0.8), (4000, 0))
        reported.media.sha256 = (await renditions.blobs.put(clip)).sha256
        reported.media.type = MEDIA_TYPE_MATROSKA
        await renditions.store.detect(reported)
        await renditions.store.rendered_facts.update()
        asked = [
            (FRAMES, photo(1)),
            (PLAYABLE, photo(1)),
            (EVENT_CLIP, opened_by(1)),
            (EVENT_PREVIEW, opened_by(1)),
        ]

        async def publish(fact: MediaRendered) -> None:
            await renditions.record(fact)

        server = GrpcServer(CallInterceptor)
        jobs = JobServicer(renditions.store.leases)
        server.add(add_JobServiceServicer_to_server, jobs, "lares.store.internal.v1.JobService")
        channels = Channels({}, {"store": await server.listen(f"unix:{tmp_path}/s", door=Door.SIBLINGS)})
        await server.start()
        worker = RenderWorker(
            JobClient(channels.to("store"), JOB_KIND_RENDER),
            renditions.blobs,
            publish,
            lambda: datetime.now(UTC),
            lease_seconds=60,
            max_pixels=10**8,
            max_seconds=60,
            backoff=DEFAULT_BACKOFF,
        )
        with as_itself():
            task = asyncio.create_task(worker.run())
        made = []
        for number, (kind, subject) in enumerate(asked):
            who = Caller.of_key(f"key{number}", "")

            async def ready() -> bool:
                rendition = await renditions.request(kind, subject, who=who)  # noqa: B023
                if rendition.state == RENDITION_STATE_READY:
                    made.append(rendition)
                return rendition.state == RENDITION_STATE_READY

            await until_async(ready)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await channels.close()
        await server.stop(0)
        types = [rendition.blob.content_type for rendition in made]
        assert types == ["image/jpeg", "video/mp4", "video/mp4", "image/webp"]
        assert [part.frame for part in made[0].blob.parts] == [0, 2000, 4000]
        for rendition in made[1:3]:
            assert seen(renditions.path(rendition.blob.sha256)).times[0] == 0
