"""The order of announcements, and their requests."""

import asyncio
from datetime import UTC, datetime

import pytest
from opentelemetry.trace import Span

from ingest_svc.announcing import FEW, Announcer
from ingest_svc.facts import Fact, RejectedFile
from ingest_svc.fingerprint import Fingerprint
from ingest_svc.rejection import OUTSIDE_LINK
from mesh.problems import Internal
from tests.support.waiting import until


async def test_facts_with_one_key_keep_their_order_and_other_keys_do_not_wait() -> None:
    published: list[str] = []

    async def publish(facts: list[Fact], _: list[Span]) -> None:
        published.extend(fact.file.path for fact in facts if fact.file)

    announcer = Announcer(publish)
    gates = {name: asyncio.Event() for name in ("a1", "a2", "b1")}

    async def work(name: str) -> Fact:
        await gates[name].wait()
        return RejectedFile("", Fingerprint(name), OUTSIDE_LINK, datetime.now(UTC))

    for name in gates:
        announcer.submit(name[0], work(name))
    running = asyncio.create_task(announcer.run())
    gates["a2"].set()
    gates["b1"].set()
    await until(lambda: published == ["b1"])
    assert announcer.pending == 2
    gates["a1"].set()
    await until(lambda: published == ["b1", "a1", "a2"])
    assert announcer.pending == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_many_facts_are_published_in_few_requests() -> None:
    requests: list[int] = []

    async def publish(facts: list[Fact], _: list[Span]) -> None:
        requests.append(len(facts))

    announcer = Announcer(publish)
    gates = [asyncio.Event() for _ in range(FEW + 32)]

    async def work(gate: asyncio.Event) -> Fact:
        await gate.wait()
        return RejectedFile("", Fingerprint("a"), OUTSIDE_LINK, datetime.now(UTC))

    for gate in gates:
        announcer.submit("a", work(gate))
    running = asyncio.create_task(announcer.run())
    for gate in gates:
        gate.set()
        await asyncio.sleep(0)
    await until(lambda: announcer.pending == 0)
    assert sum(requests) == len(gates)
    assert len(requests) < 10
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_error_that_cannot_be_retried_ends_the_loop() -> None:
    async def publish(_: list[Fact], __: list[Span]) -> None:
        raise Internal("no such topic", "INTERNAL")

    async def work() -> Fact:
        return RejectedFile("", Fingerprint("a"), OUTSIDE_LINK, datetime.now(UTC))

    announcer = Announcer(publish)
    announcement = announcer.submit("a", work())
    with pytest.raises(Internal):
        await asyncio.wait_for(announcer.run(), 90)
    assert announcement.done.cancelled()
