"""tests/fixtures/rtdetrv2-tiny.onnx: what holds for every graph that `lares model export` writes."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from deploy.model.agreement import ModelOutput, compare
from mesh.labels import COCO_LABELS

GRAPH = Path(__file__).parents[2] / "fixtures" / "rtdetrv2-tiny.onnx"
SIDE, QUERIES = 160, 30


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(GRAPH), providers=["CPUExecutionProvider"])


def scenes(count: int) -> NDArray[np.uint8]:
    random = np.random.RandomState(3)
    coarse = random.randint(0, 256, (count, 10, 10, 3)).astype(np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


def outputs_of(session: onnxruntime.InferenceSession, images: NDArray[np.uint8]) -> list[ModelOutput]:
    arrays = session.run(["scores", "labels", "boxes"], {"images": images})
    return [ModelOutput(*one) for one in zip(*arrays, strict=True)]


def test_its_metadata(session: onnxruntime.InferenceSession) -> None:
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["name"] == "rtdetrv2-tiny"
    assert len(bytes.fromhex(metadata["digest"])) == 32
    assert tuple(json.loads(metadata["labels"])) == COCO_LABELS


def test_its_inputs_and_outputs(session: onnxruntime.InferenceSession) -> None:
    (images,) = session.get_inputs()
    assert (images.name, images.type) == ("images", "tensor(uint8)")
    assert images.shape == ["batch", SIDE, SIDE, 3]
    outputs = {one.name: (one.type, one.shape) for one in session.get_outputs()}
    assert outputs == {
        "scores": ("tensor(float)", ["batch", QUERIES]),
        "labels": ("tensor(int32)", ["batch", QUERIES]),
        "boxes": ("tensor(float)", ["batch", QUERIES, 4]),
    }


def test_an_output_is_ordered_and_within_range(session: onnxruntime.InferenceSession) -> None:
    for one in outputs_of(session, scenes(4)):
        assert (np.diff(one.scores) <= 0).all()
        assert one.scores[-1] > 0
        assert one.scores[0] < 1
        assert set(one.labels.tolist()) <= set(range(80))
        # Width and height are the output of a sigmoid, so they are positive.
        assert (one.boxes[:, 2:] > one.boxes[:, :2]).all()


def test_the_output_does_not_depend_on_the_batch(session: onnxruntime.InferenceSession) -> None:
    images = scenes(8)
    alone = [output for image in images for output in outputs_of(session, image[None])]
    for batch in (3, 8):
        agreement = compare(outputs_of(session, images[:batch]), alone[:batch])
        assert agreement.holds, str(agreement)


def test_different_photos_have_different_outputs(session: onnxruntime.InferenceSession) -> None:
    one, other = outputs_of(session, scenes(2))
    assert not compare([one], [other]).holds
    assert len({tuple(box) for box in one.boxes.round(3).tolist()}) > QUERIES / 3


def test_it_is_small_enough_to_be_committed() -> None:
    assert GRAPH.stat().st_size < 1_100_000
