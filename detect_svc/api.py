"""DetectService: the pipeline's detector, for programs that bring their own images."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict

import structlog

from detect_svc.detector import Detector, Sight, identity
from detect_svc.lookout import Duty
from detect_svc.messages import detections, own_thresholds
from lares.detect.v1 import detect_service_pb2 as messages
from lares.detect.v1 import detect_service_pb2_grpc as rpc
from lares.store.v1.events_pb2 import CameraConfigured
from mesh.identity import media_id
from mesh.problems import Exhausted, Internal, NotFound, Unavailable

log = structlog.get_logger(__name__)

# So few that callers from outside never hold up the pipeline for long.
MAX_CALLS = 4


class DetectServicer(rpc.DetectServiceServicer):
    """`duty` raises Unavailable while no detector is there: so do the calls that need one."""

    def __init__(
        self,
        duty: Callable[[], Duty],
        camera: Callable[[str], CameraConfigured | None],
        lag: Callable[[], Awaitable[int]],
        gpus: Callable[[int], messages.ListGpusResponse],
    ) -> None:
        self._duty, self._camera, self._lag = duty, camera, lag
        self._gpus = gpus
        self._calls = 0

    async def DetectObjects(
        self, request: messages.DetectObjectsRequest, context: object
    ) -> messages.DetectObjectsResponse:
        """Raises Invalid whose reason names a RejectionReason, NotFound for the camera, Exhausted, and
        Unavailable while the detector is away."""
        detector, rule = self._duty()
        camera = self._thresholds(request.camera_id)
        sight = await self._sight(detector, request.image)
        kept = rule.kept(sight.found, camera)
        # The ids that the pipeline would give to the same photo of this camera.
        sha256 = await asyncio.to_thread(lambda: hashlib.sha256(request.image).hexdigest())
        name = identity(detector)
        return messages.DetectObjectsResponse(
            detections=detections(media_id(request.camera_id, sha256), kept, name),
            width=sight.width,
            height=sight.height,
            detector=name,
        )

    async def GetDetector(
        self, request: messages.GetDetectorRequest, context: object
    ) -> messages.GetDetectorResponse:
        detector, rule = self._duty()
        width, height = detector.input_size
        return messages.GetDetectorResponse(
            detector=identity(detector),
            labels=detector.labels,
            watched=rule.watched,
            thresholds=rule.thresholds,
            fast_threshold=rule.fast_threshold,
            input_width=width,
            input_height=height,
        )

    async def GetDetectStatus(
        self, request: messages.GetDetectStatusRequest, context: object
    ) -> messages.GetDetectStatusResponse:
        answer = messages.GetDetectStatusResponse(lag=await self._lag())
        try:
            detector = self._duty().detector
            answer.detector = identity(detector)
            answer.servers.extend(messages.DetectorServer(**asdict(one)) for one in detector.servers())
            await detector.check()
            answer.ready = True
        except Unavailable as problem:
            answer.detail = problem.message
        return answer

    async def ListGpus(self, request: messages.ListGpusRequest, context: object) -> messages.ListGpusResponse:
        return self._gpus(request.minutes)

    def _thresholds(self, camera_id: str) -> Mapping[str, float]:
        configured = self._camera(camera_id) if camera_id else None
        if camera_id and (configured is None or configured.deleted):
            raise NotFound(f"there is no camera {camera_id}", "CAMERA_NOT_FOUND", camera_id=camera_id)
        return own_thresholds(configured)

    async def _sight(self, detector: Detector, image: bytes) -> Sight:
        if self._calls >= MAX_CALLS:
            raise Exhausted(f"{MAX_CALLS} images are under way: try again later", "TOO_MANY_CALLS")
        self._calls += 1
        try:
            return await detector.detect(image)
        except Internal as problem:
            log.error("detector failed", error=problem.message)
            raise Internal("this image could not be read", "DETECTOR_FAILED") from None
        finally:
            self._calls -= 1
