"""From a model's output to findings."""

import numpy as np
import pytest

from detect_svc.detectors.rtdetr_output import read_findings
from mesh.problems import Internal

LABELS = ("person", "car", "???", "", "n/a")
WHOLE = [0.0, 0.0, 1.0, 1.0]


def findings(
    *rows: tuple[float, int, list[float]],
) -> list[tuple[int, str, float, tuple[float, ...]]]:
    scores = np.array([row[0] for row in rows], np.float32)
    classes = np.array([row[1] for row in rows], np.int32)
    boxes = np.array([row[2] for row in rows], np.float32).reshape(-1, 4)
    return [
        (rank, label, round(score, 3), tuple(box))
        for rank, (label, score, box) in enumerate(read_findings(scores, classes, boxes, LABELS))
    ]


def test_findings_are_ordered_by_score_and_have_labels_and_ranks() -> None:
    rows = [(0.3, 1, WHOLE), (0.9, 0, [0.1, 0.2, 0.3, 0.4])]
    assert findings(*rows) == [
        (0, "person", 0.9, (0.1, 0.2, 0.3, 0.4)),
        (1, "car", 0.3, (0.0, 0.0, 1.0, 1.0)),
    ]


def test_the_order_of_equal_scores_does_not_depend_on_the_order_of_the_output() -> None:
    rows = [(0.5, 1, WHOLE), (0.5, 0, [0.2, 0, 1, 1]), (0.5, 0, [0.1, 0, 1, 1])]
    first = findings(*rows)
    assert [(label, box[0]) for _, label, _, box in first] == [("person", 0.1), ("person", 0.2), ("car", 0.0)]
    assert findings(*reversed(rows)) == first


def test_low_scores_unnamed_classes_and_boxes_outside_are_left_out_and_have_no_rank() -> None:
    rows = [
        (0.9, 2, WHOLE),
        (0.9, 3, WHOLE),
        (0.9, 4, WHOLE),
        (0.8, 0, [1.1, 0, 1.3, 1]),
        (0.7, 0, [0.5, 0.5, 0.5, 0.9]),
        (0.6, 0, [-0.5, 0, 2, 1]),
        (0.09, 0, WHOLE),
    ]
    assert findings(*rows) == [(0, "person", 0.6, (0.0, 0.0, 1.0, 1.0))]


def test_an_empty_output_has_no_findings() -> None:
    assert findings() == []


@pytest.mark.parametrize(
    "row",
    [
        (float("nan"), 0, WHOLE),
        (1.5, 0, WHOLE),
        (-0.1, 0, WHOLE),
        (0.5, len(LABELS), WHOLE),
        (0.5, -1, WHOLE),
        (0.5, 0, [float("inf"), 0, 1, 1]),
    ],
)
def test_an_implausible_output_is_an_error_and_not_an_empty_result(
    row: tuple[float, int, list[float]],
) -> None:
    with pytest.raises(Internal) as refused:
        findings((0.9, 0, WHOLE), row)
    assert refused.value.reason == "DETECTOR_NONSENSE"


def test_shapes_that_do_not_match_are_an_error() -> None:
    with pytest.raises(Internal):
        read_findings(np.zeros(2, np.float32), np.zeros(3, np.int32), np.zeros((2, 4), np.float32), LABELS)
