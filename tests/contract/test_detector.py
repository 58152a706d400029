"""What every detector must do. Add new adapters to ADAPTERS."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detect_svc.detectors.boxes import iou_matrix
from detect_svc.detectors.detector import DecodedPicture, Detector, detector_id
from detect_svc.detectors.factory import open_detector
from lares.detect.v1.detection_pb2 import Frame, FrameDetection
from mesh.artifacts import EFFICIENTDET_SHA256, efficientdet_lite0, sha256_of
from mesh.boxes import edges
from mesh.config import load_config
from mesh.labels import COCO_LABELS
from mesh.photo_decoding import decode
from mesh.problems import Invalid, NotFound
from tests.support.photos import animals, empty_photo, people, person_photo, vehicles
from tests.support.triton import TINY, Triton

# By adapter: its URL with several workers, and with one. TRITON is replaced by the address of the real
# server.
ADAPTERS = {
    "litert": (
        "litert:efficientdet-lite0?processes=2&threads=2",
        "litert:efficientdet-lite0?processes=1&threads=1",
    ),
    "onnx": (f"onnx:{TINY}?processes=2&threads=2", f"onnx:{TINY}?processes=1&provider=cpu"),
    "triton": (
        "triton://TRITON/rtdetrv2-tiny?processes=2",
        "triton://:no%20secret@TRITON/rtdetrv2-tiny?processes=1&in_flight=1&version=1",
    ),
}
# The adapters with a trained model; no trained RT-DETRv2 can be fetched here.
trained = pytest.mark.parametrize("adapter", ["litert"], indirect=True, scope="module")
# Where the walker is, by COCO's annotators.
WALKER = (0.157, 0.462, 0.294, 1.0)


@pytest.fixture(scope="module", params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def urls(adapter: str, request: pytest.FixtureRequest) -> tuple[str, str]:
    several, one = ADAPTERS[adapter]
    if adapter != "triton":
        return several, one
    triton: Triton = request.getfixturevalue("triton")
    return several.replace("TRITON", triton.address), one.replace("TRITON", triton.address)


@pytest.fixture(scope="module")
async def detector(urls: tuple[str, str]) -> AsyncIterator[Detector]:
    async with open_detector(load_config(detector_url=urls[0])) as opened:
        yield opened


def confident(detector: Detector, frame: Frame, label: str) -> list[FrameDetection]:
    return [one for one in frame.detections if one.label == label and one.score >= detector.threshold]


@trained
async def test_a_person_is_found_in_the_right_place(detector: Detector) -> None:
    frame = await detector.detect(person_photo())
    best = confident(detector, frame, "person")[0]
    assert best.score >= detector.fast_threshold
    assert iou_matrix(np.array([edges(best.bounding_box), WALKER], np.float32))[0, 1] > 0.8
    assert (frame.width, frame.height) == (1920, 1080)


@trained
@pytest.mark.parametrize(
    ("photo", "label", "count"),
    [
        (1, "person", 3),
        (2, "person", 2),
        (3, "horse", 1),
        (4, "cat", 1),
        (5, "bird", 1),
        (6, "cow", 2),
        (7, "motorcycle", 1),
    ],
)
async def test_objects_have_the_right_labels(detector: Detector, photo: int, label: str, count: int) -> None:
    path = [*people(), *animals(), *vehicles()][photo]
    assert len(confident(detector, await detector.detect(path), label)) == count


@trained
async def test_nothing_is_found_in_an_empty_scene(detector: Detector) -> None:
    found = (await detector.detect(empty_photo())).detections
    assert [
        one for one in found if one.score >= detector.threshold and one.label in ("person", "dog", "car")
    ] == []


@trained
async def test_the_raw_output_has_scores_down_to_a_tenth(detector: Detector) -> None:
    """A camera's threshold may be that low. No detector reports lower scores."""
    scores = [
        one.score for photo in [*people(), *animals()] for one in (await detector.detect(photo)).detections
    ]
    assert 0.1 <= min(scores) < 0.12


async def test_findings_are_ordered_and_within_bounds(detector: Detector) -> None:
    for photo in people():
        found = list((await detector.detect(photo)).detections)
        assert found
        assert [one.rank for one in found] == list(range(len(found)))
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        for one in found:
            x_min, y_min, x_max, y_max = edges(one.bounding_box)
            assert 0 <= x_min < x_max <= 1
            assert 0 <= y_min < y_max <= 1
            assert 0 < one.score <= 1


async def test_the_result_does_not_depend_on_concurrent_or_earlier_photos(
    detector: Detector,
) -> None:
    photos = [*people(), *animals(), *vehicles()]
    alone = [await detector.detect(photo) for photo in photos]
    together = await asyncio.gather(*(detector.detect(photo) for photo in [*photos, *reversed(photos)]))
    assert together == [*alone, *reversed(alone)]


async def test_content_and_path_give_the_same_result(detector: Detector) -> None:
    photo = people()[0]
    assert await detector.detect(photo.read_bytes()) == await detector.detect(photo)


@trained
@pytest.mark.parametrize("photo", [0, 2, 3])
async def test_a_decoded_picture_gives_what_its_photo_gives(detector: Detector, photo: int) -> None:
    content = [*people(), *animals()][photo].read_bytes()
    seen = decode(content, 1, 64_000_000, both_sides=True)
    whole = decode(content, max(seen.width, seen.height), 64_000_000)
    height, width, _ = whole.pixels.shape
    picture = DecodedPicture(whole.pixels.tobytes(), width, height, whole.width, whole.height)
    of_photo, of_picture = await detector.detect(content), await detector.detect(picture)
    assert (of_picture.width, of_picture.height) == (of_photo.width, of_photo.height)
    # Scaled down by another method: within interpolation the same.
    best = [one for one in of_photo.detections if one.score >= detector.threshold]
    for one in best:
        matches = [
            other
            for other in of_picture.detections
            if other.label == one.label
            and iou_matrix(np.array([edges(one.bounding_box), edges(other.bounding_box)], np.float32))[0, 1]
            > 0.9
        ]
        assert max(other.score for other in matches) == pytest.approx(one.score, abs=0.08)


async def test_a_picture_of_the_inputs_size_gives_exactly_what_a_photo_of_it_gives(
    detector: Detector,
) -> None:
    """Nothing is scaled while decoding, so that the same pixels arrive."""
    pixels = np.random.default_rng(1).integers(0, 255, (detector.input_size[1], detector.input_size[0], 3))
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    picture = DecodedPicture(pixels.astype(np.uint8).tobytes(), *detector.input_size, *detector.input_size)
    assert await detector.detect(picture) == await detector.detect(file.getvalue())


async def test_labels_are_canonical_and_the_id_names_the_weights(detector: Detector) -> None:
    assert set(detector.labels) <= set(COCO_LABELS)
    assert {"person", "car", "dog"} <= set(detector.labels)
    assert detector_id(detector) == f"{detector.name}@{detector.digest[:12]}"
    assert len(detector.digest) == 64
    assert 0 < detector.threshold <= detector.fast_threshold <= 1
    assert detector.photos_in_flight >= 1
    await detector.check()
    assert all(one.available for one in detector.servers())


async def test_a_bad_photo_is_refused_with_a_reason(detector: Detector) -> None:
    whole = person_photo().read_bytes()
    for content, reason in ((b"no image", "NOT_AN_IMAGE"), (whole[: len(whole) // 2], "TRUNCATED")):
        with pytest.raises(Invalid) as refused:
            await detector.detect(content)
        assert refused.value.reason == reason


async def test_a_missing_file_is_not_found(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(NotFound) as missing:
        await detector.detect(tmp_path / "gone")
    assert missing.value.reason == "BLOB_NOT_FOUND"


async def test_another_instance_gives_the_same_result(detector: Detector, urls: tuple[str, str]) -> None:
    async with open_detector(load_config(detector_url=urls[1])) as other:
        assert detector_id(other) == detector_id(detector)
        assert await other.detect(person_photo()) == await detector.detect(person_photo())


@pytest.mark.parametrize(
    "url",
    [
        "yolo:v9",
        "litert:yolo",
        "litert:efficientdet-lite0?threads=0",
        "litert:efficientdet-lite0?nice=1",
        "onnx:",
        "onnx:/x.onnx",
        f"onnx:{TINY}?provider=vulkan",
        f"onnx:{TINY}?provider=cuda",
        f"onnx:{TINY}?provider=tensorrt",
        f"onnx:{Path(__file__)}",
        "triton://host:8001",
        "triton://host/rtdetrv2",
        "triton:///rtdetrv2",
        "triton://host:8001,host:8001/rtdetrv2",
        "triton://host:8001/rtdetrv2?batch=8",
        "triton://host:8001/rtdetrv2?in_flight=0",
        "triton://host:8001/rtdetrv2?tls=yes",
        "triton://[::1/rtdetrv2",
    ],
)
async def test_the_error_for_an_invalid_url_names_the_setting(url: str) -> None:
    with pytest.raises(Invalid, match="LARES_DETECTOR_URL") as refused:
        async with open_detector(load_config(detector_url=url)):
            pass
    assert refused.value.reason == "BAD_SETTING"


async def test_the_error_for_an_unknown_scheme_lists_the_known_ones_without_the_token() -> None:
    with pytest.raises(Invalid, match=r"litert:.*onnx:.*triton:") as refused:
        open_detector(load_config(detector_url="tritium://:s3cret@host:8001/rtdetrv2"))
    assert "s3cret" not in refused.value.message


def test_the_digest_is_that_of_the_weights() -> None:
    assert sha256_of(efficientdet_lite0(load_config().cache)) == EFFICIENTDET_SHA256
