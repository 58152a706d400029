"""The worker loop: each MediaIngested becomes a MediaDetected, a MediaRejected or a dead letter.

Media whose content the store knows are passed on without being looked at. Clips take long, so they wait for
their turn beside the photos: those behind them in the log are detected meanwhile. What is found is published
in the order of the log within each partition, so a photo that is behind a clip there waits for it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import structlog

from detect_svc.clip_worker import ClipWorker
from detect_svc.detectors.detector import Detector
from detect_svc.frames.clip_frames import ClipDecoders
from detect_svc.messages import detected, is_rejection, model_of, not_looked_at, rejected
from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.events_pb2 import MediaIngested
from mesh.blobs import Blobs
from mesh.bus import Delivery, Output, Stream
from mesh.media_types import is_clip
from mesh.problems import Internal, Invalid, NotFound, Problem
from mesh.processes.sandbox import Crashed, Hung
from mesh.retry import Backoff
from mesh.task_group import task_group
from mesh.telemetry.spans import record_span, span
from mesh.topics import DETECTED, REJECTED
from mesh.visible_text import without_addresses

log = structlog.get_logger(__name__)

BACKOFF = Backoff(0.4, 10.0)
# Attempts at a media if the failure may be temporary, or the media's own.
MAX_ATTEMPTS: dict[type[Problem], int] = {NotFound: 5, Hung: 3}
DEAD_REASONS: dict[type[Problem], str] = {Crashed: "DECODER_CRASHED", Hung: "DECODER_HUNG"}
# Failures for which the media is at fault. Its file is rejected, so that it is not announced again. Missing
# content may return and a bug may be fixed: these are not rejections, and the file is announced again later.
MEDIA_AT_FAULT = (Invalid, Hung)  # Crashed is an Invalid


class DetectWorker:
    """Keeps at least `batch` photos in flight, and as many as keep the detector busy, and beside them as many
    clips as there are decoders. They may finish in any order; the stream restores it."""

    def __init__(
        self,
        stream: Stream[MediaIngested],
        detector: Detector,
        blobs: Blobs,
        batch: int,
        decoders: ClipDecoders,
    ) -> None:
        self._stream, self._detector, self._blobs = stream, detector, blobs
        self._model = model_of(detector)
        self._clips = ClipWorker(detector, self._model, decoders)
        self._decoders = decoders.count
        # No more than the stream has given out and not seen done.
        self._waiting_clips: asyncio.Queue[Delivery[MediaIngested]] = asyncio.Queue()
        self._max_in_flight = max(batch, detector.photos_in_flight)

    async def run(self) -> None:
        """Runs until cancelled. Raises what stops the stream."""
        deliveries, taking = self._deliveries(), asyncio.Lock()

        async def work() -> None:
            """Processes one photo after another. One that waits for a retry keeps its task, so no more photos
            are taken from the stream while the detector is not available."""
            while True:
                async with taking:
                    delivery = await anext(deliveries, None)
                if delivery is None:
                    return
                if is_clip(delivery.message.media.type) and not delivery.message.media.known_content:
                    self._waiting_clips.put_nowait(delivery)
                else:
                    await self._process(delivery)

        async def work_on_clips() -> None:
            while True:
                delivery = await self._waiting_clips.get()
                # Of a partition that has moved meanwhile, whoever has it now gets the clip.
                if self._stream.holds(delivery):
                    await self._process(delivery)

        # As many tasks as media in flight: a new one for each would cost more.
        async with aclosing(deliveries), task_group() as workers:
            photos = [workers.create_task(work()) for _ in range(self._max_in_flight)]
            clips = [workers.create_task(work_on_clips()) for _ in range(self._decoders)]
            await asyncio.gather(*photos)  # until the stream ends
            for task in clips:
                task.cancel()

    async def _deliveries(self) -> AsyncGenerator[Delivery[MediaIngested], None]:
        async for batch in self._stream.batches(self._max_in_flight):
            for delivery in batch:
                yield delivery
            await asyncio.sleep(0)  # photos of known content wait for nothing, and may be many

    async def _process(self, delivery: Delivery[MediaIngested]) -> None:
        with record_span(delivery) as span:
            span.set_attribute("lares.camera.id", delivery.message.media.camera_id)
            span.set_attribute("lares.media.id", delivery.message.media.id)
            await self._process_until_done(delivery)

    async def _process_until_done(self, delivery: Delivery[MediaIngested]) -> None:
        media, attempts = delivery.message.media, 0
        if media.known_content:
            self._done(delivery, (DETECTED, not_looked_at(media)))
            log.debug("known media passed on", camera=media.camera_id, media=media.id)
            return
        while True:
            attempts += 1
            try:
                await self._detect(delivery)
                return
            except Exception as error:
                problem = _problem_of(error)
            try:
                if not self._stream.holds(delivery) or await self._give_up(delivery, problem, attempts):
                    return
            except Problem as bus_problem:  # the dead letter could not be published
                problem = bus_problem
            log.warning(
                "media not processed, retrying",
                media=delivery.message.media.id,
                attempts=attempts,
                error=problem.message,
            )
            await asyncio.sleep(BACKOFF.pause(attempts))

    async def _detect(self, delivery: Delivery[MediaIngested]) -> None:
        media, began = delivery.message.media, time.perf_counter()
        try:
            with span("detect objects", {"lares.detector": self._model.id}) as detecting:
                async with self._blobs.local(media.sha256) as path:
                    message = await self._look_at(delivery, path)
                found = sum(len(frame.detections) for frame in message.frames)
                detecting.set_attribute("lares.detections.found", found)
        except Problem as problem:
            if not is_rejection(problem):
                raise
            self._done(delivery, (REJECTED, rejected(media, problem.reason, problem.message)))
            log.info("media rejected", camera=media.camera_id, media=media.id, reason=problem.reason)
            return
        self._done(delivery, (DETECTED, message))
        milliseconds = round((time.perf_counter() - began) * 1000)
        log.info(
            "clip detected" if is_clip(media.type) else "photo detected",
            camera=media.camera_id,
            media=media.id,
            frames=len(message.frames),
            found=found,
            ms=milliseconds,
        )

    async def _look_at(self, delivery: Delivery[MediaIngested], path: Path) -> MediaDetected:
        media = delivery.message.media
        if is_clip(media.type):
            return await self._clips.detect(media, path, lambda: self._stream.holds(delivery))
        return detected(media, await self._detector.detect(path), self._model)

    def _done(self, delivery: Delivery[MediaIngested], output: Output) -> None:
        self._stream.done(delivery, output, urgent=not delivery.message.backlog)

    async def _give_up(self, delivery: Delivery[MediaIngested], problem: Problem, attempts: int) -> bool:
        """Publishes a dead letter unless another attempt may help, and returns whether it did. Raises what
        the stream raises."""
        max_attempts = MAX_ATTEMPTS.get(type(problem))
        if problem.retryable if max_attempts is None else attempts < max_attempts:
            return False
        reason = DEAD_REASONS.get(type(problem), problem.reason)
        attempts = problem.attempts if isinstance(problem, Crashed) else attempts
        media, outputs = delivery.message.media, list[Output]()
        if isinstance(problem, MEDIA_AT_FAULT):
            outputs.append((REJECTED, rejected(media, "UNDETECTABLE", f"{reason}: {problem.message}")))
        await self._stream.bury(delivery, reason, *outputs, attempts=attempts)
        log.error(
            "media moved to the dead letters",
            camera=media.camera_id,
            media=media.id,
            reason=reason,
            attempts=attempts,
        )
        return True


def _problem_of(error: Exception) -> Problem:
    """An unexpected error is treated as that media's problem, so that it does not stop the others."""
    if isinstance(error, Problem):
        return error
    log.error("unexpected error", exc_info=error)
    return Internal(without_addresses(f"{type(error).__name__}: {error}"), "UNEXPECTED")
