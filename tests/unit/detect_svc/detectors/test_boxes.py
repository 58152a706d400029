"""The anchors, against those in the weights' own file, and suppression of overlaps."""

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detect_svc.detectors.boxes import anchor_grid, decode_boxes, iou_matrix, suppress_overlaps
from detect_svc.detectors.efficientdet import ANCHOR_SCALE, SIDE, fit
from mesh.artifacts import efficientdet_lite0
from mesh.config import load_config

COUNT = 19206
# A FixedAnchor table: where its vtable is, height, width, centre y, centre x; and the vtable they share.
RECORD, VTABLE = struct.Struct("<iffff"), struct.pack("<6H", 12, 20, 16, 12, 8, 4)


def test_the_anchors_are_those_of_the_model_file() -> None:
    """MediaPipe's metadata lists them, written back to front, as flatbuffers are."""
    content = efficientdet_lite0(load_config().cache).read_bytes()
    first = RECORD.pack(0, 0.075, 0.075, 0.0125, 0.0125)[4:]
    end = content.rindex(first, 0, content.index(b"DETECTOR_METADATA")) + len(first)
    tables = content[:end].replace(VTABLE, b"")[-RECORD.size * COUNT :]
    records = [*RECORD.iter_unpack(tables)][::-1]
    stated = np.array([(y, x, height, width) for _, height, width, y, x in records], np.float32)
    computed = anchor_grid(SIDE, ANCHOR_SCALE)
    np.testing.assert_allclose(computed, stated, atol=1e-6)


def test_without_offsets_the_box_is_the_anchor() -> None:
    grid = anchor_grid(SIDE, ANCHOR_SCALE)[:9]
    boxes = decode_boxes(np.zeros((9, 4), np.float32), grid)
    np.testing.assert_allclose((boxes[:, :2] + boxes[:, 2:]) / 2, grid[:, 1::-1], atol=1e-6)
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], grid[:, :1:-1], atol=1e-6)


def test_offsets_are_relative_to_the_anchor() -> None:
    anchor = np.array([[0.5, 0.5, 0.2, 0.4]], np.float32)
    (box,) = decode_boxes(np.array([[1.0, -0.5, np.log(2), 0.0]], np.float32), anchor)
    np.testing.assert_allclose(box, [0.1, 0.5, 0.5, 0.9], atol=1e-6)


def test_the_iou_of_known_boxes() -> None:
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6], [4, 4, 4, 4]], np.float32)
    iou = iou_matrix(boxes)
    np.testing.assert_allclose(iou[0], [1, 1 / 7, 0, 0], atol=1e-6)
    assert iou[3, 3] == 0


def test_the_better_one_of_two_boxes_on_one_object_is_kept() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 6], [20, 20, 30, 30]], np.float32)
    same = np.zeros(4, np.intp)
    assert suppress_overlaps(boxes, same, 0.5, 0.85).tolist() == [0, 3]
    # Another class in the same place is the same object; one that only overlaps is not.
    assert suppress_overlaps(boxes, np.array([0, 1, 1, 1]), 0.5, 0.85).tolist() == [0, 2, 3]


def test_suppression_of_no_boxes() -> None:
    assert suppress_overlaps(np.zeros((0, 4), np.float32), np.zeros(0, np.intp), 0.5, 0.85).tolist() == []


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 4, st.integers(0, 2)), max_size=30))
def test_suppression_keeps_a_box_unless_a_better_one_overlaps_it(
    raw: list[tuple[float, float, float, float, int]],
) -> None:
    corners = np.array([[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d, _ in raw], np.float32)
    boxes, classes = corners.reshape(-1, 4), np.array([number for *_, number in raw], np.intp)
    kept = suppress_overlaps(boxes, classes, 0.5, 0.85)
    assert kept.tolist() == sorted(kept.tolist())
    iou = iou_matrix(boxes)
    for place, index in enumerate(kept):
        for better in kept[:place]:
            assert iou[better, index] <= (0.5 if classes[better] == classes[index] else 0.85)
    for index in set(range(len(boxes))) - set(kept.tolist()):
        better = [k for k in kept if k < index]
        assert any(iou[k, index] > (0.5 if classes[k] == classes[index] else 0.85) for k in better)


def test_a_wide_picture_is_stretched_in_height_by_a_third_and_a_tall_one_in_width() -> None:
    _, wide = fit(np.zeros((180, 320, 3), np.uint8))
    np.testing.assert_allclose(wide, [1, 0.75, 1, 0.75])
    _, tall = fit(np.zeros((1000, 100, 3), np.uint8))
    np.testing.assert_allclose(tall, [43 / 320, 1, 43 / 320, 1])
    canvas, square = fit(np.full((1, 1, 3), 7, np.uint8))
    np.testing.assert_allclose(square, 1)
    assert (canvas == 7).all()
