"""DetectService: the pipeline's detector, for clients that send their own images. ProgressService: how far
the pipeline has come."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict

import structlog

from detect_svc.detectors.detector import Detector, detector_id
from detect_svc.messages import detections
from lares.detect.internal.v1.progress_service_pb2 import GetProgressRequest, GetProgressResponse
from lares.detect.internal.v1.progress_service_pb2_grpc import ProgressServiceServicer
from lares.detect.v1 import detect_service_pb2 as messages
from lares.detect.v1 import detect_service_pb2_grpc as rpc
from lares.detect.v1.detection_pb2 import Frame
from mesh.identity import media_id
from mesh.labels import canonical, listed
from mesh.problems import Exhausted, Internal, Invalid, Problem, Unavailable

log = structlog.get_logger(__name__)

# Few, so that clients do not delay the pipeline.
MAX_CALLS = 4


class DetectServicer(rpc.DetectServiceServicer):
    """`detector` raises Unavailable while the detector is not open, and so do the calls that need it."""

    def __init__(
        self,
        detector: Callable[[], Detector],
        lag: Callable[[], Awaitable[int]],
        gpus: Callable[[int], messages.ListGpusResponse],
    ) -> None:
        self._detector, self._lag, self._gpus = detector, lag, gpus
        self._calls = 0

    async def DetectObjects(
        self, request: messages.DetectObjectsRequest, context: object
    ) -> messages.DetectObjectsResponse:
        """Raises Invalid with the name of a RejectionReason, Invalid UNKNOWN_LABEL, Exhausted, and
        Unavailable while the detector is not available."""
        detector = self._detector()
        labels = _requested_labels(request.labels, detector)
        min_score = request.min_score if request.HasField("min_score") else detector.threshold
        frame = await self._detect(detector, request.image)
        kept = [one for one in frame.detections if one.label in labels and one.score >= min_score]
        # The ids are those that the pipeline gives to the same photo of this camera.
        sha256 = await asyncio.to_thread(lambda: hashlib.sha256(request.image).hexdigest())
        name = detector_id(detector)
        return messages.DetectObjectsResponse(
            detections=detections(media_id(request.camera_id, sha256), kept, name),
            width=frame.width,
            height=frame.height,
            detector=name,
        )

    async def GetDetector(
        self, request: messages.GetDetectorRequest, context: object
    ) -> messages.GetDetectorResponse:
        detector = self._detector()
        width, height = detector.input_size
        return messages.GetDetectorResponse(
            detector=detector_id(detector),
            labels=detector.labels,
            threshold=detector.threshold,
            fast_threshold=detector.fast_threshold,
            input_width=width,
            input_height=height,
        )

    async def GetDetectStatus(
        self, request: messages.GetDetectStatusRequest, context: object
    ) -> messages.GetDetectStatusResponse:
        response = messages.GetDetectStatusResponse()
        try:
            response.lag = await self._lag()
        except Problem as problem:
            response.problem = problem.message
        try:
            detector = self._detector()
            response.detector = detector_id(detector)
            response.servers.extend(messages.DetectorServer(**asdict(state)) for state in detector.servers())
            await detector.check()
            response.ready = True
        except Unavailable as problem:
            response.detail = problem.message
        return response

    async def ListGpus(self, request: messages.ListGpusRequest, context: object) -> messages.ListGpusResponse:
        return self._gpus(request.minutes)

    async def _detect(self, detector: Detector, image: bytes) -> Frame:
        if self._calls >= MAX_CALLS:
            raise Exhausted(f"{MAX_CALLS} images are being processed: try again later", "TOO_MANY_CALLS")
        self._calls += 1
        try:
            return await detector.detect(image)
        except Internal as problem:
            log.error("detector failed", error=problem.message)
            raise Internal("the detector failed on this image", "DETECTOR_FAILED") from None
        finally:
            self._calls -= 1


class ProgressServicer(ProgressServiceServicer):
    """`processed` and `published` return offsets by partition."""

    def __init__(
        self, processed: Callable[[], Mapping[int, int]], published: Callable[[], Mapping[int, int]]
    ) -> None:
        self._processed, self._published = processed, published

    async def GetProgress(self, request: GetProgressRequest, context: object) -> GetProgressResponse:
        return GetProgressResponse(processed=self._processed(), published=self._published())


def _requested_labels(names: Iterable[str], detector: Detector) -> frozenset[str]:
    """The canonical labels of `names`, or all of the detector's if `names` is empty. Raises Invalid."""
    labels = frozenset(map(canonical, names)) or frozenset(detector.labels)
    if unknown := sorted(labels.difference(detector.labels)):
        known = listed(detector.labels)
        raise Invalid(f"{detector.name} cannot find {listed(unknown)}; it finds {known}", "UNKNOWN_LABEL")
    return labels
