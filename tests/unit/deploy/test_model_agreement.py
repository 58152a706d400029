"""Two outputs for the same photo agree if each finding has its counterpart, in any order."""

from dataclasses import replace

import numpy as np
import pytest

from deploy.model.agreement import ModelOutput, compare


def output(seed: int = 1, queries: int = 30) -> ModelOutput:
    random = np.random.RandomState(seed)
    scores = np.sort(random.uniform(0.05, 0.95, queries))[::-1].astype(np.float32)
    boxes = random.uniform(0, 1, (queries, 4)).astype(np.float32)
    return ModelOutput(scores, random.randint(0, 80, queries), boxes)


def test_an_output_agrees_with_itself() -> None:
    agreement = compare([output(1), output(2)], [output(1), output(2)])
    assert agreement.holds
    assert (agreement.matched, agreement.missing, agreement.score, agreement.box) == (60, 0, 0, 0)


def test_equal_scores_in_another_order_agree() -> None:
    one = output()
    one.scores[4] = one.scores[5]
    order = [*range(4), 5, 4, *range(6, 30)]
    other = ModelOutput(one.scores[order] + np.float32(1e-5), one.labels[order], one.boxes[order])
    agreement = compare([one], [other])
    assert agreement.holds
    assert agreement.matched == 30
    assert agreement.score == pytest.approx(1e-5, rel=0.02)


def test_the_last_of_equal_scores_may_lack_a_counterpart() -> None:
    one = output()
    other = replace(one, labels=one.labels.copy())
    other.labels[-1] = (one.labels[-1] + 1) % 80
    agreement = compare([one], [other])
    assert agreement.holds
    assert agreement.matched == 29


def test_another_score_does_not_agree() -> None:
    other = replace(output(), scores=output().scores * np.float32(0.99))
    agreement = compare([output()], [other])
    assert not agreement.holds
    assert agreement.score > 5e-3


def test_another_box_does_not_agree() -> None:
    other = replace(output(), boxes=output().boxes + np.float32(0.01))
    agreement = compare([output()], [other])
    assert not agreement.holds
    assert agreement.box == pytest.approx(0.01, rel=1e-3)


def test_another_class_has_no_counterpart() -> None:
    other = replace(output(), labels=output().labels.copy())
    other.labels[3] = 80
    agreement = compare([output()], [other])
    assert not agreement.holds
    assert agreement.missing == 1


def test_a_finding_is_the_counterpart_of_only_one_other() -> None:
    one = output()
    one.scores[1], one.labels[1], one.boxes[1] = one.scores[0], one.labels[0], one.boxes[0]
    agreement = compare([one], [output()])
    assert not agreement.holds


def test_two_empty_outputs_do_not_count_as_agreement() -> None:
    assert not compare([], []).holds
