"""The health of a server after probes and assessments."""

import asyncio

import pytest

from mesh.problems import Exhausted, Internal, Problem, Unavailable
from reason_svc.language_models.health import LlmHealth
from reason_svc.language_models.responses import LlmResponse
from reason_svc.language_models.url import LlmEndpoint
from reason_svc.reasoner import ReasonerReadiness
from tests.support.waiting import until

BAD_ANSWER = Internal("nonsense", "BAD_ANSWER")
GONE = Unavailable("gone", "LLM_UNREACHABLE")
BUSY = Exhausted("busy", "LLM_BUSY")
DROPPED = Internal("dropped", "LLM_DROPPED")


class FakeServer:
    """Answers every probe with `status`, or refuses connections if it is 0, or drops them if it is -1, as a
    proxy does whose server is gone."""

    def __init__(self) -> None:
        self.status = 200
        self.broken = False

    async def get(self, url: str) -> LlmResponse:
        if self.broken:
            raise ValueError("a bug")
        if self.status < 0:
            raise DROPPED
        if not self.status:
            raise Unavailable("no connection", "LLM_UNREACHABLE")
        return LlmResponse(self.status, "", {"data": [{"id": "m", "owned_by": "vllm"}]})


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def health(server: FakeServer) -> LlmHealth:
    return LlmHealth(server.get, LlmEndpoint("http://host/v1", "m"))


async def test_a_server_is_unreachable_before_the_first_probe(health: LlmHealth) -> None:
    assert (health.state, health.last_seen) == (ReasonerReadiness.UNREACHABLE, None)
    with pytest.raises(Unavailable):
        health.server()
    await health.probe()
    assert (health.state, health.detail) == (ReasonerReadiness.READY, "")
    assert health.server() is health.last_seen


@pytest.mark.parametrize(
    ("status", "state", "kind"),
    [
        (0, ReasonerReadiness.UNREACHABLE, Unavailable),
        (-1, ReasonerReadiness.UNREACHABLE, Unavailable),
        (502, ReasonerReadiness.UNREACHABLE, Unavailable),
        (503, ReasonerReadiness.LOADING, Unavailable),
        (401, ReasonerReadiness.FAILING, Internal),
        (500, ReasonerReadiness.FAILING, Internal),
    ],
)
async def test_a_probe_that_fails(
    health: LlmHealth, server: FakeServer, status: int, state: ReasonerReadiness, kind: type[Problem]
) -> None:
    await health.probe()
    server.status = status
    await health.probe()
    assert health.state is state
    assert health.detail
    with pytest.raises(kind):
        health.server()
    server.status = 200
    await health.probe()
    assert health.state is ReasonerReadiness.READY


async def test_a_failed_assessment_counts_until_one_succeeds(health: LlmHealth) -> None:
    await health.probe()
    health.record_assessment(BAD_ANSWER)
    await health.probe()
    assert (health.state, health.detail) == (ReasonerReadiness.FAILING, "nonsense")
    assert health.server()  # it still gets requests
    health.record_assessment(None)
    assert health.state is ReasonerReadiness.READY


async def test_after_a_dropped_connection_nothing_is_asked_before_a_probe(health: LlmHealth) -> None:
    """Otherwise the attempts of a whole backlog would fail while a server behind a proxy restarts."""
    await health.probe()
    health.record_assessment(DROPPED)
    assert (health.state, health.detail) == (ReasonerReadiness.UNREACHABLE, "dropped")
    with pytest.raises(Unavailable):
        health.server()
    await health.probe()
    assert (health.state, health.detail) == (ReasonerReadiness.FAILING, "dropped")
    assert health.server()
    health.record_assessment(None)
    assert health.state is ReasonerReadiness.READY


async def test_a_server_that_was_away_is_ready_again(health: LlmHealth, server: FakeServer) -> None:
    await health.probe()
    health.record_assessment(BAD_ANSWER)
    server.status = 0
    await health.probe()
    server.status = 200
    await health.probe()
    assert health.state is ReasonerReadiness.READY


async def test_an_assessment_without_a_connection_counts_until_the_next_probe(health: LlmHealth) -> None:
    await health.probe()
    health.record_assessment(GONE)
    assert (health.state, health.detail) == (ReasonerReadiness.UNREACHABLE, "gone")
    await health.probe()
    assert health.state is ReasonerReadiness.READY


async def test_a_server_too_busy_for_a_probe_is_ready_if_it_assesses(
    health: LlmHealth, server: FakeServer
) -> None:
    await health.probe()
    server.status = 0
    await health.probe()
    health.record_assessment(None)
    assert health.state is ReasonerReadiness.READY


async def test_a_busy_server_stays_ready(health: LlmHealth, server: FakeServer) -> None:
    await health.probe()
    since = health.since
    health.record_assessment(BUSY)
    server.status = 429
    await health.probe()
    assert (health.state, health.since) == (ReasonerReadiness.READY, since)


async def test_probes_continue_after_an_unexpected_error(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reason_svc.language_models.health.AWAY_SECONDS", 0.01)
    server.broken = True
    health = LlmHealth(server.get, LlmEndpoint("http://host/v1", "m"))
    probing = asyncio.create_task(health.run())
    await until(lambda: health.state is ReasonerReadiness.FAILING)
    server.broken = False
    await until(lambda: health.state is ReasonerReadiness.READY)
    probing.cancel()
