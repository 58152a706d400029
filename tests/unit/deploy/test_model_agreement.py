"""Two answers to the same photo agree when each finding has its counterpart, in whatever order."""

from dataclasses import replace

import numpy as np
import pytest

from deploy.model.agreement import ModelOutput, compare


def answer(seed: int = 1, queries: int = 30) -> ModelOutput:
    random = np.random.RandomState(seed)
    scores = np.sort(random.uniform(0.05, 0.95, queries))[::-1].astype(np.float32)
    boxes = random.uniform(0, 1, (queries, 4)).astype(np.float32)
    return ModelOutput(scores, random.randint(0, 80, queries), boxes)


def test_the_same_agrees_with_itself() -> None:
    agreement = compare([answer(1), answer(2)], [answer(1), answer(2)])
    assert agreement.holds
    assert (agreement.matched, agreement.missing, agreement.score, agreement.box) == (60, 0, 0, 0)


def test_equals_in_another_order_agree() -> None:
    ours = answer()
    ours.scores[4] = ours.scores[5]
    order = [*range(4), 5, 4, *range(6, 30)]
    theirs = ModelOutput(ours.scores[order] + np.float32(1e-5), ours.labels[order], ours.boxes[order])
    agreement = compare([ours], [theirs])
    assert agreement.holds
    assert agreement.matched == 30
    assert agreement.score == pytest.approx(1e-5, rel=0.02)


def test_the_last_of_equals_may_be_another_one() -> None:
    ours = answer()
    theirs = replace(ours, labels=ours.labels.copy())
    theirs.labels[-1] = (ours.labels[-1] + 1) % 80
    agreement = compare([ours], [theirs])
    assert agreement.holds
    assert agreement.matched == 29


def test_another_score_does_not_agree() -> None:
    theirs = replace(answer(), scores=answer().scores * np.float32(0.99))
    agreement = compare([answer()], [theirs])
    assert not agreement.holds
    assert agreement.score > 5e-3


def test_another_box_does_not_agree() -> None:
    theirs = replace(answer(), boxes=answer().boxes + np.float32(0.01))
    agreement = compare([answer()], [theirs])
    assert not agreement.holds
    assert agreement.box == pytest.approx(0.01, rel=1e-3)


def test_another_class_has_no_counterpart() -> None:
    theirs = replace(answer(), labels=answer().labels.copy())
    theirs.labels[3] = 80
    agreement = compare([answer()], [theirs])
    assert not agreement.holds
    assert agreement.missing == 1


def test_one_of_theirs_is_the_counterpart_of_one_of_ours_only() -> None:
    ours = answer()
    ours.scores[1], ours.labels[1], ours.boxes[1] = ours.scores[0], ours.labels[0], ours.boxes[0]
    agreement = compare([ours], [answer()])
    assert not agreement.holds


def test_nothing_agrees_with_nothing_but_proves_nothing() -> None:
    assert not compare([], []).holds
