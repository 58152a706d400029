"""DetectService as callers see it, without a wire."""

import asyncio

import pytest

from detect_svc.api import MAX_CALLS, DetectServicer
from detect_svc.detector import ServerState, Sight
from detect_svc.filter import Filter
from detect_svc.lookout import Duty
from lares.detect.v1 import detect_service_pb2 as messages
from lares.store.v1.camera_pb2 import Camera
from lares.store.v1.events_pb2 import CameraConfigured
from mesh.config import load_config
from mesh.problems import Exhausted, Internal, Invalid, NotFound, Unavailable
from tests.support.detectors import FakeDetector, person


async def lag_of_seven() -> int:
    return 7


def servicer(detector: FakeDetector) -> DetectServicer:
    cameras = {
        "strict": CameraConfigured(camera=Camera(id="strict", thresholds={"person": 0.8})),
        "gone": CameraConfigured(camera=Camera(id="gone"), deleted=True),
    }

    def gpus(minutes: int) -> messages.ListGpusResponse:
        return messages.ListGpusResponse(detail=f"none in {minutes} minutes")

    duty = Duty(detector, Filter.of(load_config(), detector))
    return DetectServicer(lambda: duty, cameras.get, lag_of_seven, gpus)


def seeing(*scores: float) -> FakeDetector:
    detector = FakeDetector()
    detector.answers["photo"] = Sight([person(score, rank) for rank, score in enumerate(scores)], 64, 48)
    return detector


def ask(image: bytes = b"photo", camera: str = "") -> messages.DetectObjectsRequest:
    return messages.DetectObjectsRequest(image=image, camera_id=camera)


async def test_detections_come_with_the_pipelines_thresholds_and_the_size() -> None:
    answer = await servicer(seeing(0.9, 0.5, 0.4)).DetectObjects(ask(), None)
    assert [round(one.score, 2) for one in answer.detections] == [0.9, 0.5]
    assert (answer.width, answer.height, answer.detector) == (64, 48, "fake@abababababab")


async def test_a_cameras_own_thresholds_are_used_when_it_is_named() -> None:
    answer = await servicer(seeing(0.9, 0.5)).DetectObjects(ask(camera="strict"), None)
    assert len(answer.detections) == 1


@pytest.mark.parametrize("camera", ["gone", "never-was"])
async def test_a_camera_that_is_not_there_is_not_found(camera: str) -> None:
    with pytest.raises(NotFound) as refused:
        await servicer(seeing()).DetectObjects(ask(camera=camera), None)
    assert refused.value.reason == "CAMERA_NOT_FOUND"


async def test_ids_depend_on_the_photo_and_the_camera_alone() -> None:
    api = servicer(seeing(0.9))
    ids = [
        (await api.DetectObjects(ask(camera=camera), None)).detections[0].id for camera in ("", "", "strict")
    ]
    assert ids[0] == ids[1] != ids[2]


async def test_a_bad_image_is_invalid_with_its_reason() -> None:
    detector = FakeDetector()
    detector.answers["photo"] = Invalid("the JPEG ends too early", "TRUNCATED")
    with pytest.raises(Invalid) as refused:
        await servicer(detector).DetectObjects(ask(), None)
    assert refused.value.reason == "TRUNCATED"


async def test_a_failure_inside_says_nothing_about_the_inside() -> None:
    detector = FakeDetector()
    detector.answers["photo"] = Internal("OSError: /srv/secret/place", "CHILD_FAILED")
    with pytest.raises(Internal) as refused:
        await servicer(detector).DetectObjects(ask(), None)
    assert "/srv" not in refused.value.message


async def test_only_so_many_at_a_time() -> None:
    detector = seeing(0.9)
    detector.gates["photo"] = asyncio.Event()
    api = servicer(detector)
    calls = [asyncio.create_task(api.DetectObjects(ask(), None)) for _ in range(MAX_CALLS)]
    async with asyncio.timeout(90):
        while detector.busy < MAX_CALLS:
            await asyncio.sleep(0)
    with pytest.raises(Exhausted):
        await api.DetectObjects(ask(), None)
    detector.gates["photo"].set()
    assert all(answer.detections for answer in await asyncio.gather(*calls))
    assert (await api.DetectObjects(ask(), None)).detections


async def test_the_detector_tells_what_it_is() -> None:
    answer = await servicer(FakeDetector()).GetDetector(messages.GetDetectorRequest(), None)
    assert answer.detector == "fake@abababababab"
    assert len(answer.labels) == 80
    assert "person" in answer.watched
    assert "kite" not in answer.watched
    assert answer.thresholds["person"] == pytest.approx(0.5)
    assert set(answer.thresholds) == set(answer.watched)
    assert (answer.input_width, answer.input_height) == (320, 320)
    assert answer.fast_threshold == pytest.approx(0.8)


async def test_the_lag_is_the_streams() -> None:
    assert (await servicer(FakeDetector()).GetDetectStatus(messages.GetDetectStatusRequest(), None)).lag == 7


async def test_the_status_names_the_detector_and_its_servers() -> None:
    detector = FakeDetector()
    detector.states = [ServerState("host:8001", False, 3, 7, 2)]
    status = await servicer(detector).GetDetectStatus(messages.GetDetectStatusRequest(), None)
    assert (status.detector, status.ready, status.detail) == ("fake@abababababab", True, "")
    (server,) = status.servers
    assert (server.address, server.available) == ("host:8001", False)
    assert (server.in_flight, server.answered, server.failed) == (3, 7, 2)
    detector.problem = Unavailable("host:8001: down", "DETECTOR_AWAY")
    status = await servicer(detector).GetDetectStatus(messages.GetDetectStatusRequest(), None)
    assert (status.ready, status.detail) == (False, "host:8001: down")
    assert len(status.servers) == 1


async def test_while_no_detector_is_there_the_status_says_why_and_calls_are_for_later() -> None:
    def away() -> Duty:
        raise Unavailable("host:8001: no such host", "DETECTOR_AWAY")

    api = DetectServicer(away, lambda _: None, lag_of_seven, lambda _: messages.ListGpusResponse())
    status = await api.GetDetectStatus(messages.GetDetectStatusRequest(), None)
    assert (status.lag, status.ready, status.detail) == (7, False, "host:8001: no such host")
    for call in (
        api.DetectObjects(ask(), None),
        api.GetDetector(messages.GetDetectorRequest(), None),
    ):
        with pytest.raises(Unavailable):
            await call


async def test_the_gpus_are_the_monitors() -> None:
    answer = await servicer(FakeDetector()).ListGpus(messages.ListGpusRequest(minutes=9), None)
    assert answer.detail == "none in 9 minutes"
