"""Waiting for a slot of a reasoner."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

from reason_svc.assessor import Assessor
from reason_svc.severity import SeverityThresholds
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
