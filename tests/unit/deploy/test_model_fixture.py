"""tests/fixtures/rtdetrv2-tiny.onnx: the contract of every graph that `lares model export` writes."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from deploy.model.agreement import ModelOutput, compare
from detect_svc.detectors.coco_labels import COCO_LABELS

GRAPH = Path(__file__).parents[2] / "fixtures" / "rtdetrv2-tiny.onnx"
SIDE, QUERIES = 160, 30


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(GRAPH), providers=["CPUExecutionProvider"])


def scenes(count: int) -> NDArray[np.uint8]:
    random = np.random.RandomState(3)
    coarse = random.randint(0, 256, (count, 10, 10, 3)).astype(np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


def answers(session: onnxruntime.InferenceSession, images: NDArray[np.uint8]) -> list[ModelOutput]:
    told = session.run(["scores", "labels", "boxes"], {"images": images})
    return [ModelOutput(*one) for one in zip(*told, strict=True)]


def test_it_says_what_it_is(session: onnxruntime.InferenceSession) -> None:
    said = session.get_modelmeta().custom_metadata_map
    assert said["name"] == "rtdetrv2-tiny"
    assert len(bytes.fromhex(said["digest"])) == 32
    assert tuple(json.loads(said["labels"])) == COCO_LABELS


def test_bytes_in_and_scores_labels_boxes_out(session: onnxruntime.InferenceSession) -> None:
    (images,) = session.get_inputs()
    assert (images.name, images.type) == ("images", "tensor(uint8)")
    assert images.shape == ["batch", SIDE, SIDE, 3]
    outputs = {one.name: (one.type, one.shape) for one in session.get_outputs()}
    assert outputs == {
        "scores": ("tensor(float)", ["batch", QUERIES]),
        "labels": ("tensor(int32)", ["batch", QUERIES]),
        "boxes": ("tensor(float)", ["batch", QUERIES, 4]),
    }


def test_an_answer_is_in_order_and_in_range(session: onnxruntime.InferenceSession) -> None:
    for one in answers(session, scenes(4)):
        assert (np.diff(one.scores) <= 0).all()
        assert one.scores[-1] > 0
        assert one.scores[0] < 1
        assert set(one.labels.tolist()) <= set(range(80))
        # Width and height are a sigmoid's: a box of them is never turned over.
        assert (one.boxes[:, 2:] > one.boxes[:, :2]).all()


def test_a_photo_has_one_answer_in_any_batch(session: onnxruntime.InferenceSession) -> None:
    images = scenes(8)
    alone = [answer for image in images for answer in answers(session, image[None])]
    for batch in (3, 8):
        agreement = compare(answers(session, images[:batch]), alone[:batch])
        assert agreement.holds, str(agreement)


def test_photos_differ_and_so_do_their_answers(session: onnxruntime.InferenceSession) -> None:
    one, other = answers(session, scenes(2))
    assert not compare([one], [other]).holds
    assert len({tuple(box) for box in one.boxes.round(3).tolist()}) > QUERIES / 3


def test_it_is_small_enough_to_be_committed() -> None:
    assert GRAPH.stat().st_size < 1_100_000
