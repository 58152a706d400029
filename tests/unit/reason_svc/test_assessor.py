"""Whose turn it is at a judge with few slots."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

from reason_svc.assessor import Assessor
from reason_svc.severity import SeverityThresholds
from tests.support.waiting import until


class Narrow:
    slots = 2


async def test_no_more_at_once_than_there_are_slots_in_the_order_in_which_they_came() -> None:
    judge = Assessor(cast(Any, Narrow()), SeverityThresholds(), lambda: datetime.now(UTC))
    begun, goes_on = list[int](), asyncio.Semaphore(0)

    async def ask(number: int) -> None:
        async with judge.slot():
            begun.append(number)
            await goes_on.acquire()

    asked = [asyncio.create_task(ask(number)) for number in range(6)]
    await until(lambda: begun)
    assert begun == [0, 1]
    asked[2].cancel()  # who waits may leave
    asked[0].cancel()  # and who is asked, too
    await until(lambda: len(begun) == 3)
    assert begun == [0, 1, 3]
    for _ in range(4):
        goes_on.release()
    await asyncio.gather(*asked, return_exceptions=True)
    assert begun == [0, 1, 3, 4, 5]
