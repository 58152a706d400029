"""The media worker: makes the renditions that are due, and publishes what came of them."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime
from importlib.util import find_spec

import structlog

from detect_svc.rendering.render_order import render_order
from lares.detect.v1.events_pb2 import MediaRendered, RenderedBlob, RenderedPart, RenderFailure
from lares.store.internal.v1.job_service_pb2 import JobLease, RenderInput, RenderSource
from lares.store.v1 import rendition_pb2 as rendition
from mesh.blobs import Blobs
from mesh.blobs.spool import Blob, SpooledFile
from mesh.identity import render_failure_id
from mesh.job_client import JobClient
from mesh.job_worker import JobWorker
from mesh.media_types import is_clip
from mesh.problems import Internal, Invalid, NotFound, Problem, Unavailable
from mesh.processes.sandbox import Hung, Sandbox
from mesh.retry import Backoff
from mesh.telemetry.spans import INTERNAL, Attributes, request_span
from mesh.telemetry.trace_context import TRACEPARENT
from mesh.visible_text import without_addresses

log = structlog.get_logger(__name__)

RENDERER = "detect_svc.rendering.child:render"
# A copy of a long clip takes many minutes, and a preview one or two seconds.
AT_ONCE = 2
MEMORY_BYTES = 2**30
MAX_BYTES = 512 * 2**20
NICE = 10
# The deadline is so long, and by kind so many times as long as the clips.
BASE_SECONDS = 120
TIMES = {
    rendition.RENDITION_KIND_FRAMES: 2,
    rendition.RENDITION_KIND_PLAYABLE: 8,
    rendition.RENDITION_KIND_EVENT_CLIP: 0.5,
    rendition.RENDITION_KIND_EVENT_PREVIEW: 2,
}
# A renderer has at most two busy threads.
CPU_SHARE = 2
CONTENT_TYPES = {
    rendition.RENDITION_KIND_FRAMES: "image/jpeg",
    rendition.RENDITION_KIND_PLAYABLE: "video/mp4",
    rendition.RENDITION_KIND_EVENT_CLIP: "video/mp4",
    rendition.RENDITION_KIND_EVENT_PREVIEW: "image/webp",
}
# People are told at least so often how much is done.
PROGRESS_SECONDS = 3.0
MAX_DETAIL_LENGTH = 300


class RenderWorker:
    """Makes each rendition in a child of its own, and publishes MediaRendered. `publish` returns once the
    fact is durable; the content has been before.

    A rendition that cannot be made is a fact, too. What is away for a while (the blobs, the disk, the log)
    does not count as an attempt (see JobWorker). `max_seconds` is taken for the length of a clip that does
    not say it.
    """

    def __init__(
        self,
        jobs: JobClient,
        blobs: Blobs,
        publish: Callable[[MediaRendered], Awaitable[None]],
        clock: Callable[[], datetime],
        *,
        lease_seconds: float,
        max_pixels: int,
        max_seconds: float,
        backoff: Backoff,
    ) -> None:
        self._blobs, self._publish, self._clock = blobs, publish, clock
        self._max_pixels, self._max_seconds = max_pixels, max_seconds
        self._jobs = JobWorker(
            jobs,
            self._handle,
            capacity=lambda: AT_ONCE,
            lease_seconds=lease_seconds,
            backoff=backoff,
            progress_seconds=PROGRESS_SECONDS,
        )

    async def run(self) -> None:
        """Works until cancelled. Raises a Problem that waiting cannot solve."""
        await self._jobs.run()

    async def _handle(self, lease: JobLease) -> None:
        about: Attributes = {"lares.rendition.id": lease.subject_id, "lares.attempt": lease.attempt}
        parent = {TRACEPARENT: lease.traceparent} if lease.traceparent else {}
        with request_span(parent, "render", about, INTERNAL) as span:
            fact = await self._attempt(lease)
            async with self._jobs.publishing(lease):
                await self._publish(fact)
            span.set_attribute("lares.failure.reason", fact.failure.reason)
        _log_fact(lease.render, fact)

    async def _attempt(self, lease: JobLease) -> MediaRendered:
        """Returns the fact of a rendition or of a failed attempt. Raises a retryable Problem if something is
        away."""
        fact = MediaRendered(rendition_id=lease.subject_id, camera_id=lease.render.camera_id)
        try:
            fact.blob.CopyFrom(await self._rendered(lease))
        except Hung as problem:
            # The clip may be the cause, or the host.
            fact.failure.CopyFrom(_failure(lease, "TOO_SLOW", problem.message, permanent=False))
        except OSError as error:
            raise Unavailable(f"the rendition cannot be stored: {error.strerror}", "DISK_FAILED") from None
        except Problem as problem:
            if problem.retryable:
                raise
            permanent = isinstance(problem, Invalid | NotFound)
            fact.failure.CopyFrom(_failure(lease, problem.reason, problem.message, permanent=permanent))
        except Exception:
            log.exception("unexpected error in the renderer", rendition=lease.subject_id)
            detail = "unexpected error in the renderer"
            fact.failure.CopyFrom(_failure(lease, "INTERNAL", detail, permanent=False))
        fact.rendered_at.FromDatetime(self._clock())
        return fact

    async def _rendered(self, lease: JobLease) -> RenderedBlob:
        """Returns the rendition, which is among the blobs then."""
        wanted = lease.render
        if find_spec("av") is None and any(is_clip(source.media.type) for source in wanted.sources):
            raise Invalid("clips need the package av: install lares[clips]", "CLIPS_NOT_INSTALLED")
        async with AsyncExitStack() as stack:
            sources = list[tuple[RenderSource, str]]()
            for source in await self._present(wanted):
                path = await stack.enter_async_context(self._blobs.local(source.media.sha256))
                sources.append((source, str(path)))
            order = render_order(wanted, sources, self._max_pixels)
            spooled = await stack.enter_async_context(self._blobs.spooled())
            parts = await self._render(lease, order, spooled)
            blob = await asyncio.to_thread(spooled.written)
            rendered = _message(wanted, parts, blob)
            await spooled.store()
            return rendered

    async def _present(self, wanted: RenderInput) -> list[RenderSource]:
        """The sources whose content there is. Raises NotFound if there is none."""
        present, missing = list[RenderSource](), None
        for source in wanted.sources:
            try:
                await self._blobs.size(source.media.sha256)
                present.append(source)
            except NotFound as problem:
                missing = problem
        if missing and not present:
            raise missing
        return present

    async def _render(self, lease: JobLease, order: dict[str, object], spooled: SpooledFile) -> object:
        seconds = BASE_SECONDS + TIMES[lease.render.kind] * self._seconds_of(lease.render)
        descriptor = await asyncio.to_thread(spooled.descriptor)

        def tell(share: float) -> None:
            self._jobs.progress[lease.lease_id] = share

        sandbox = Sandbox(
            RENDERER,
            seconds=seconds,
            cpu_seconds=math.ceil(CPU_SHARE * seconds),
            memory_bytes=MEMORY_BYTES,
            nice=NICE,
            output=descriptor,
            output_bytes=MAX_BYTES,
        )
        try:
            async with sandbox:
                return await sandbox.run(order, descriptor, MAX_BYTES, on_progress=tell)
        except Invalid as problem:
            if problem.reason == "DISK_FAILED":
                raise Unavailable(problem.message, problem.reason) from None
            raise

    def _seconds_of(self, wanted: RenderInput) -> float:
        clips = [source.media.clip for source in wanted.sources if is_clip(source.media.type)]
        return sum(clip.duration.ToMilliseconds() / 1000 or self._max_seconds for clip in clips)


def _message(wanted: RenderInput, parts: object, blob: Blob) -> RenderedBlob:
    """Raises Internal for parts that there cannot be: the child may be under foreign control."""
    message = RenderedBlob(sha256=blob.sha256, size_bytes=blob.size, content_type=CONTENT_TYPES[wanted.kind])
    left = {frame.index for source in wanted.sources for frame in source.frames}
    try:
        for frame, offset, size in parts:  # type: ignore[attr-defined]
            if frame not in left or size <= 0 or not 0 <= offset <= blob.size - size:
                raise ValueError("such a part cannot be")
            left.remove(frame)
            message.parts.append(RenderedPart(frame=frame, offset=offset, size_bytes=size))
    except (TypeError, ValueError) as error:
        raise Internal(f"the renderer's result cannot be used: {error}", "CHILD_FAILED") from None
    return message


def _failure(lease: JobLease, reason: str, detail: str, *, permanent: bool) -> RenderFailure:
    """The same attempt has the same id in every copy of the fact."""
    return RenderFailure(
        id=render_failure_id(lease.lease_id, lease.attempt),
        reason=reason,
        detail=without_addresses(detail)[:MAX_DETAIL_LENGTH],
        permanent=permanent,
    )


def _log_fact(wanted: RenderInput, fact: MediaRendered) -> None:
    kind = rendition.RenditionKind.Name(wanted.kind).removeprefix("RENDITION_KIND_").lower()
    about = {"kind": kind, "rendition": fact.rendition_id, "camera": fact.camera_id}
    if fact.HasField("failure"):
        log.warning("rendition failed", reason=fact.failure.reason, **about)
    else:
        log.info("rendition made", bytes=fact.blob.size_bytes, **about)
