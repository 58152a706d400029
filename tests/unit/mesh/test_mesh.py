"""For whom workers and checks call their siblings."""

import asyncio
from typing import Any, cast

import pytest

from mesh.mesh import Mesh
from mesh.security import SIBLING, Caller, NoCaller, caller, current_caller
from tests.support.callers import calling_as
from tests.support.waiting import until

nothing = cast(Any, None)


async def made() -> Mesh:
    return Mesh(nothing, nothing, nothing, nothing, nothing, nothing)


async def test_a_worker_and_what_it_starts_call_as_the_service_itself() -> None:
    mesh, seen = await made(), list[Caller]()

    async def note() -> None:
        seen.append(current_caller())

    async def work() -> None:
        await note()
        await asyncio.create_task(note())
        await asyncio.Event().wait()

    async with mesh.running("a worker", work()):
        await until(lambda: len(seen) == 2)
        assert caller.get(None) is None  # who starts it does not become it
    assert seen == [SIBLING, SIBLING]


@pytest.mark.parametrize("who", [None, Caller.of_key("1", "Ann")])
async def test_checks_are_the_services_own_whoever_wants_to_know(who: Caller | None) -> None:
    mesh, seen = await made(), list[Caller]()

    async def check() -> None:
        seen.append(current_caller())

    mesh.checks["part"] = check
    if who:
        with calling_as(who):
            await mesh.missing()
            assert current_caller() == who
    else:
        await mesh.missing()
        with pytest.raises(NoCaller):
            current_caller()
    assert seen == [SIBLING]


async def test_what_does_not_end_before_the_stop_delays_it_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mesh.mesh.STOP_SECONDS", 0.01)
    mesh, done, cancelled = await made(), asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def end() -> None:
        done.set()

    mesh.before_stop += [hang, end]
    async with asyncio.timeout(20):
        await mesh.prepare_stop()
    assert done.is_set()
    assert cancelled.is_set()
