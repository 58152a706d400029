"""Tasks that end together: none of them may end unnoticed."""

import asyncio

import pytest

from mesh.problems import Unavailable
from mesh.task_group import task_group, until_first_ends


async def cancelled_by_a_library() -> None:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ended.cancel()
    await ended


async def test_a_task_that_nobody_cancelled_but_ends_so_fails_the_others() -> None:
    others: list[asyncio.Task[None]] = []
    with pytest.raises(RuntimeError, match="without having been cancelled"):
        async with task_group() as group:
            others.append(group.create_task(asyncio.sleep(3600)))
            group.create_task(cancelled_by_a_library())
    assert others[0].cancelled()


async def test_whoever_has_a_task_may_cancel_it_before_it_begins_and_later() -> None:
    async with task_group() as group:
        group.create_task(asyncio.sleep(3600)).cancel()
        running = group.create_task(asyncio.sleep(3600))
        await asyncio.sleep(0)
        running.cancel()
    assert running.cancelled()


async def test_a_problem_stays_one() -> None:
    async def fail() -> None:
        raise Unavailable("no store", "NO_STORE")

    with pytest.raises(Unavailable, match="no store"):
        async with task_group() as group:
            group.create_task(fail())
            await asyncio.sleep(3600)


async def test_what_ends_first_ends_the_others_which_are_waited_for() -> None:
    tidied: list[str] = []

    async def other() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            tidied.append("other")

    async def returns() -> None:
        await asyncio.sleep(0)

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("a bug")

    await until_first_ends(other(), returns())
    assert tidied == ["other"]
    with pytest.raises(ValueError, match="a bug"):
        await until_first_ends(fails(), other())
    assert tidied == ["other", "other"]
