"""What a process says of itself: live, started, ready."""

import asyncio

import pytest

from mesh.readiness import Readiness


class Parts:
    """Parts that may be missing, and how often they were looked at."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}
        self.looks = 0

    async def check(self) -> dict[str, str]:
        self.looks += 1
        await asyncio.sleep(0)
        return dict(self.missing)


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def readiness(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> Readiness:
    monkeypatch.setattr("mesh.readiness.FRESH_SECONDS", 0.0)
    readiness = Readiness()
    readiness.follow(parts.check, ["postgres", "kafka"])
    return readiness


async def test_details_are_told_beside_the_parts(readiness: Readiness) -> None:
    readiness.started = True
    readiness.details.append(lambda: {"certificates": {"clients": "2031-05-06T07:08:09+00:00"}})
    assert await readiness.report() == {
        "ready": True,
        "checks": {"kafka": True, "postgres": True},
        "certificates": {"clients": "2031-05-06T07:08:09+00:00"},
    }


async def test_a_process_is_ready_once_it_has_started_and_while_nothing_is_missing(
    readiness: Readiness, parts: Parts
) -> None:
    assert list(await readiness.missing()) == ["start"]
    assert (await readiness.report())["ready"] is False
    readiness.started = True
    assert await readiness.report() == {"ready": True, "checks": {"kafka": True, "postgres": True}}
    parts.missing = {"kafka": "no broker answers at 10.0.0.7"}
    assert await readiness.report() == {"ready": False, "checks": {"kafka": False, "postgres": True}}
    assert readiness.started  # for ever


async def test_a_process_that_stops_is_not_ready_and_looks_at_nothing(
    readiness: Readiness, parts: Parts
) -> None:
    readiness.started = readiness.stopping = True
    assert list(await readiness.missing()) == ["stop"]
    assert parts.looks == 0


async def test_nobody_knows_the_parts_before_they_exist() -> None:
    readiness = Readiness()
    assert await readiness.report() == {"ready": False, "checks": {}}


async def test_many_who_ask_at_once_cause_one_look(
    readiness: Readiness, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.readiness.FRESH_SECONDS", 60.0)
    readiness.started = True
    await asyncio.gather(*(readiness.missing() for _ in range(20)))
    assert parts.looks == 1


async def test_what_metrics_tell_of_the_process_and_its_parts(readiness: Readiness, parts: Parts) -> None:
    async def told() -> dict[tuple[str, ...], float]:
        samples = [sample for metric in await readiness.sample() for sample in metric.samples]
        return {(sample.name, *sample.labels.values()): sample.value for sample in samples}

    kafka, postgres = (("lares_dependency_ready", part) for part in ("kafka", "postgres"))
    parts.missing = {"kafka": "no broker answers"}
    assert await told() == {("lares_started",): 0, ("lares_stopping",): 0, kafka: 0, postgres: 1}
    parts.missing.clear()
    readiness.started = True
    assert await told() == {("lares_started",): 1, ("lares_stopping",): 0, kafka: 1, postgres: 1}
    parts.missing = {"kafka": "no broker answers"}
    await readiness.missing()
    readiness.stopping = True
    assert await told() == {("lares_started",): 1, ("lares_stopping",): 1, kafka: 0, postgres: 1}
    assert (await readiness.report())["checks"] == {"kafka": False, "postgres": True}
