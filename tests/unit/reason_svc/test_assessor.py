"""Waiting for a slot of a reasoner, and how far a model is from the rules."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from lares.reason.v1 import assessment_pb2
from reason_svc.assessor import Assessor
from reason_svc.reasoner import ReasonerResult
from reason_svc.severity import SeverityThresholds
from tests.support.evidence import evidence_message
from tests.support.waiting import until


class ReasonerWithTwoSlots:
    slots = 2


async def test_slots_are_given_in_order_of_arrival() -> None:
    assessor = Assessor(cast(Any, ReasonerWithTwoSlots()), SeverityThresholds(), lambda: datetime.now(UTC))
    begun, goes_on = list[int](), asyncio.Semaphore(0)

    async def ask(number: int) -> None:
        async with assessor.slot():
            begun.append(number)
            await goes_on.acquire()

    asked = [asyncio.create_task(ask(number)) for number in range(6)]
    await until(lambda: begun)
    assert begun == [0, 1]
    asked[2].cancel()  # cancelled while it waits
    asked[0].cancel()  # cancelled while it holds a slot
    await until(lambda: len(begun) == 3)
    assert begun == [0, 1, 3]
    for _ in range(4):
        goes_on.release()
    await asyncio.gather(*asked, return_exceptions=True)
    assert begun == [0, 1, 3, 4, 5]


class ReasonerWithScores:
    slots = 1

    def __init__(self, by_rules: int, by_model: int | None) -> None:
        self._result = ReasonerResult("llm", by_model or 0, "", (), by_rules, model_score=by_model)

    async def assess(self, *_: object) -> ReasonerResult:
        return self._result


@pytest.mark.parametrize(
    ("by_rules", "by_model", "disagreement"),
    [
        (0, None, assessment_pb2.DISAGREEMENT_UNSPECIFIED),
        (0, 29, assessment_pb2.DISAGREEMENT_NONE),
        (29, 30, assessment_pb2.DISAGREEMENT_SMALL),
        (85, 84, assessment_pb2.DISAGREEMENT_SMALL),
        (29, 60, assessment_pb2.DISAGREEMENT_LARGE),
        (100, 0, assessment_pb2.DISAGREEMENT_LARGE),
    ],
)
async def test_the_disagreement_of_a_model_with_the_rules(
    by_rules: int, by_model: int | None, disagreement: int
) -> None:
    reasoner = cast(Any, ReasonerWithScores(by_rules, by_model))
    assessor = Assessor(reasoner, SeverityThresholds(), lambda: datetime.now(UTC))
    assessed = await assessor.assess(evidence_message())
    assert assessed.assessment.disagreement == disagreement
