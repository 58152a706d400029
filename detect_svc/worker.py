"""The loop: every MediaIngested becomes a MediaDetected, a MediaRejected or a dead letter."""

import asyncio
import random
import time

import structlog

from detect_svc.detectors.detector import Detector, detector_id
from detect_svc.messages import detected, is_rejection, rejected
from lares.ingest.v1.events_pb2 import MediaIngested
from mesh.blobs import Blobs
from mesh.bus import Delivery, Output, Stream
from mesh.problems import Internal, Invalid, NotFound, Problem
from mesh.processes.sandbox import Crashed, Hung
from mesh.task_group import task_group
from mesh.telemetry.spans import record_span, span
from mesh.topics import DETECTED, REJECTED

log = structlog.get_logger(__name__)

BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.2, 10.0
# How often a photo is tried whose failure may be its own fault, or may pass.
PATIENCE: dict[type[Problem], int] = {NotFound: 5, Hung: 3}
DEAD_REASONS: dict[type[Problem], str] = {Crashed: "DECODER_CRASHED", Hung: "DECODER_HUNG"}
# What the photo is at fault for, so that its file need not be looked at again. Content that is gone may come
# back, and a bug be mended: the store hears nothing of such a photo, and its file is announced again.
ITS_FAULT = (Invalid, Hung)  # a crash is Invalid, too


class DetectWorker:
    """Keeps `batch` photos in flight, or as many as keep the detector busy; they may finish in any order, the
    stream restores it."""

    def __init__(
        self,
        stream: Stream[MediaIngested],
        detector: Detector,
        blobs: Blobs,
        batch: int,
    ) -> None:
        self._stream, self._detector, self._blobs = stream, detector, blobs
        self._window = max(batch, detector.photos_in_flight)

    async def run(self) -> None:
        """Until cancelled; raises what stops the stream."""
        room = asyncio.Semaphore(self._window)
        async with task_group() as photos:
            async for batch in self._stream.batches(self._window):
                for delivery in batch:
                    # A photo that waits for its next try keeps its place, so a detector that is away stops
                    # the intake.
                    await room.acquire()
                    task = photos.create_task(self._process(delivery))
                    task.add_done_callback(lambda _: room.release())

    async def _process(self, delivery: Delivery[MediaIngested]) -> None:
        with record_span(delivery) as span:
            span.set_attribute("lares.camera.id", delivery.message.media.camera_id)
            span.set_attribute("lares.media.id", delivery.message.media.id)
            await self._finish(delivery)

    async def _finish(self, delivery: Delivery[MediaIngested]) -> None:
        attempts = 0
        while True:
            attempts += 1
            try:
                await self._answer(delivery)
                return
            except Exception as error:
                problem = _problem_of(error)
            try:
                if await self._give_up(delivery, problem, attempts):
                    return
            except Problem as unavailable:  # the bus is away: nothing can be said about this photo yet
                problem = unavailable
            log.warning(
                "photo waits", media=delivery.message.media.id, attempts=attempts, error=problem.message
            )
            await asyncio.sleep(_backoff(attempts))

    async def _answer(self, delivery: Delivery[MediaIngested]) -> None:
        media, began = delivery.message.media, time.perf_counter()
        try:
            with span("detect objects", {"lares.detector": detector_id(self._detector)}) as detecting:
                async with self._blobs.local(media.sha256) as path:
                    frame = await self._detector.detect(path)
                detecting.set_attribute("lares.detections.findings", len(frame.findings))
        except Problem as problem:
            if not is_rejection(problem):
                raise
            self._stream.done(delivery, (REJECTED, rejected(media, problem.reason, problem.message)))
            log.info("photo rejected", camera=media.camera_id, media=media.id, reason=problem.reason)
            return
        self._stream.done(delivery, (DETECTED, detected(media, frame, self._detector)))
        took = round((time.perf_counter() - began) * 1000)
        log.info("photo detected", camera=media.camera_id, media=media.id, found=len(frame.findings), ms=took)

    async def _give_up(self, delivery: Delivery[MediaIngested], problem: Problem, attempts: int) -> bool:
        """Whether the photo was put to the dead letters; raises what the bus raises."""
        patience = PATIENCE.get(type(problem))
        if problem.retryable if patience is None else attempts < patience:
            return False
        reason = DEAD_REASONS.get(type(problem), problem.reason)
        tried = problem.attempts if isinstance(problem, Crashed) else attempts
        media, outputs = delivery.message.media, list[Output]()
        if isinstance(problem, ITS_FAULT):
            outputs.append((REJECTED, rejected(media, "UNDETECTABLE", f"{reason}: {problem.message}")))
        await self._stream.bury(delivery, reason, *outputs, attempts=tried)
        log.error("photo buried", camera=media.camera_id, media=media.id, reason=reason, attempts=tried)
        return True


def _problem_of(error: Exception) -> Problem:
    """A bug that one photo brings to light is that photo's problem: it must not stop the others for ever."""
    if isinstance(error, Problem):
        return error
    log.error("unexpected error", exc_info=error)
    return Internal(f"{type(error).__name__}: {error}", "UNEXPECTED")


def _backoff(attempts: int) -> float:
    longest = min(LONGEST_BACKOFF_SECONDS, BACKOFF_SECONDS * 2 ** min(attempts, 16))
    return random.uniform(longest / 2, longest)  # noqa: S311
