"""DetectService, called directly."""

import asyncio
from typing import Any

import pytest

from detect_svc.api import MAX_CALLS, DetectServicer
from detect_svc.detectors.detector import Detector, ServerState
from detect_svc.detectors.frame_message import frame_message
from lares.detect.v1 import detect_service_pb2 as messages
from mesh.problems import Exhausted, Internal, Invalid, Unavailable
from tests.support.detectors import FakeDetector, person


async def lag_of_seven() -> int:
    return 7


def servicer(detector: FakeDetector) -> DetectServicer:
    def gpus(minutes: int) -> messages.ListGpusResponse:
        return messages.ListGpusResponse(detail=f"none in {minutes} minutes")

    return DetectServicer(lambda: detector, lag_of_seven, gpus)


def detector_with(*scores: float) -> FakeDetector:
    detector = FakeDetector()
    detector.results["photo"] = frame_message(64, 48, map(person, scores))
    return detector


def request(image: bytes = b"photo", **fields: Any) -> messages.DetectObjectsRequest:
    return messages.DetectObjectsRequest(image=image, **fields)


async def test_detections_start_at_the_detectors_threshold() -> None:
    response = await servicer(detector_with(0.9, 0.5, 0.4)).DetectObjects(request(), None)
    assert [round(one.score, 2) for one in response.detections] == [0.9, 0.5]
    assert (response.width, response.height, response.detector) == (64, 48, "fake@abababababab")
    first = response.detections[0]
    box = first.bounding_box
    assert (box.x_min, box.y_min, box.x_max, box.y_max) == pytest.approx((0.1, 0.2, 0.3, 0.4))
    assert not first.box


@pytest.mark.parametrize(("least", "scores"), [(0.0, [0.9, 0.5, 0.1]), (0.5, [0.9, 0.5]), (0.95, [])])
async def test_a_request_may_set_the_least_score(least: float, scores: list[float]) -> None:
    response = await servicer(detector_with(0.9, 0.5, 0.1)).DetectObjects(request(min_score=least), None)
    assert [round(one.score, 2) for one in response.detections] == scores


async def test_a_request_may_choose_labels_by_any_spelling() -> None:
    detector, box = FakeDetector(), (0.0, 0.0, 1.0, 1.0)
    labels = ("person", "motorcycle", "kite")
    detector.results["photo"] = frame_message(4, 3, [(each, 0.9, box) for each in labels])
    api = servicer(detector)

    async def detected(*labels: str) -> list[str]:
        return [one.label for one in (await api.DetectObjects(request(labels=labels), None)).detections]

    assert await detected() == ["person", "motorcycle", "kite"]
    assert await detected("Motorbike", "kite") == ["motorcycle", "kite"]
    assert await detected("dog") == []
    with pytest.raises(Invalid, match="fake cannot find burglar; it finds person") as refused:
        await detected("person", "burglar")
    assert refused.value.reason == "UNKNOWN_LABEL"


async def test_ids_depend_on_the_photo_and_the_camera_alone() -> None:
    api = servicer(detector_with(0.9))
    ids = [
        (await api.DetectObjects(request(camera_id=camera), None)).detections[0].id
        for camera in ("", "", "door")
    ]
    assert ids[0] == ids[1] != ids[2]


async def test_a_bad_image_is_invalid_with_its_reason() -> None:
    detector = FakeDetector()
    detector.results["photo"] = Invalid("the JPEG ends too early", "TRUNCATED")
    with pytest.raises(Invalid) as refused:
        await servicer(detector).DetectObjects(request(), None)
    assert refused.value.reason == "TRUNCATED"


async def test_an_internal_error_does_not_reveal_its_message() -> None:
    detector = FakeDetector()
    detector.results["photo"] = Internal("OSError: /srv/secret/place", "CHILD_FAILED")
    with pytest.raises(Internal) as refused:
        await servicer(detector).DetectObjects(request(), None)
    assert "/srv" not in refused.value.message


async def test_the_number_of_concurrent_calls_is_limited() -> None:
    detector = detector_with(0.9)
    detector.gates["photo"] = asyncio.Event()
    api = servicer(detector)
    calls = [asyncio.create_task(api.DetectObjects(request(), None)) for _ in range(MAX_CALLS)]
    async with asyncio.timeout(90):
        while detector.busy < MAX_CALLS:
            await asyncio.sleep(0)
    with pytest.raises(Exhausted):
        await api.DetectObjects(request(), None)
    detector.gates["photo"].set()
    assert all(response.detections for response in await asyncio.gather(*calls))
    assert (await api.DetectObjects(request(), None)).detections


async def test_get_detector() -> None:
    response = await servicer(FakeDetector()).GetDetector(messages.GetDetectorRequest(), None)
    assert response.detector == "fake@abababababab"
    assert len(response.labels) == 80
    assert response.threshold == pytest.approx(0.5)
    assert (response.input_width, response.input_height) == (320, 320)
    assert response.fast_threshold == pytest.approx(0.8)


async def test_the_lag_is_that_of_the_stream() -> None:
    assert (await servicer(FakeDetector()).GetDetectStatus(messages.GetDetectStatusRequest(), None)).lag == 7


async def test_a_lag_that_is_not_known_is_a_problem_beside_what_is_known() -> None:
    async def away() -> int:
        raise Unavailable("Kafka does not answer", "BUS_UNAVAILABLE")

    api = DetectServicer(FakeDetector, away, lambda _: messages.ListGpusResponse())
    status = await api.GetDetectStatus(messages.GetDetectStatusRequest(), None)
    assert status == messages.GetDetectStatusResponse(
        detector="fake@abababababab", ready=True, problem="Kafka does not answer"
    )


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


async def test_without_a_detector_the_status_has_the_reason_and_calls_are_unavailable() -> None:
    def unavailable() -> Detector:
        raise Unavailable("host:8001: no such host", "DETECTOR_AWAY")

    api = DetectServicer(unavailable, lag_of_seven, lambda _: messages.ListGpusResponse())
    status = await api.GetDetectStatus(messages.GetDetectStatusRequest(), None)
    assert (status.lag, status.ready, status.detail) == (7, False, "host:8001: no such host")
    for call in (
        api.DetectObjects(request(), None),
        api.GetDetector(messages.GetDetectorRequest(), None),
    ):
        with pytest.raises(Unavailable):
            await call


async def test_list_gpus() -> None:
    response = await servicer(FakeDetector()).ListGpus(messages.ListGpusRequest(minutes=9), None)
    assert response.detail == "none in 9 minutes"
