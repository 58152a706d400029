"""What is thought of a server, look by look and judgement by judgement."""

import asyncio

import pytest

from mesh.problems import Exhausted, Internal, Problem, Unavailable
from reason_svc.language_models.health import LlmHealth
from reason_svc.language_models.responses import LlmResponse
from reason_svc.language_models.url import LlmEndpoint
from reason_svc.reasoner import ReasonerReadiness
from tests.support.waiting import until

FAILED = Internal("nonsense", "BAD_ANSWER")
GONE = Unavailable("gone", "LLM_UNREACHABLE")
BUSY = Exhausted("busy", "LLM_BUSY")


class Server:
    """Answers every look with this status, or is not there."""

    def __init__(self) -> None:
        self.status = 200
        self.broken = False

    async def get(self, url: str) -> LlmResponse:
        if self.broken:
            raise ValueError("nobody thought of this")
        if not self.status:
            raise Unavailable("no connection", "LLM_UNREACHABLE")
        return LlmResponse(self.status, "", {"data": [{"id": "m", "owned_by": "vllm"}]})


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def watch(server: Server) -> LlmHealth:
    return LlmHealth(server.get, LlmEndpoint("http://host/v1", "m"))


async def test_nobody_can_be_asked_before_the_first_look(watch: LlmHealth) -> None:
    assert (watch.state, watch.last_seen) == (ReasonerReadiness.UNREACHABLE, None)
    with pytest.raises(Unavailable):
        watch.server()
    await watch.probe()
    assert (watch.state, watch.detail) == (ReasonerReadiness.READY, "")
    assert watch.server() is watch.last_seen


@pytest.mark.parametrize(
    ("status", "state", "kind"),
    [
        (0, ReasonerReadiness.UNREACHABLE, Unavailable),
        (502, ReasonerReadiness.UNREACHABLE, Unavailable),
        (503, ReasonerReadiness.LOADING, Unavailable),
        (401, ReasonerReadiness.FAILING, Internal),
        (500, ReasonerReadiness.FAILING, Internal),
    ],
)
async def test_a_look_that_finds_it_away(
    watch: LlmHealth, server: Server, status: int, state: ReasonerReadiness, kind: type[Problem]
) -> None:
    await watch.probe()
    server.status = status
    await watch.probe()
    assert watch.state is state
    assert watch.detail
    with pytest.raises(kind):
        watch.server()
    server.status = 200
    await watch.probe()
    assert watch.state is ReasonerReadiness.READY


async def test_a_good_look_mends_no_bad_judgement_but_a_good_judgement_does(watch: LlmHealth) -> None:
    await watch.probe()
    watch.record_assessment(FAILED)
    await watch.probe()
    assert (watch.state, watch.detail) == (ReasonerReadiness.FAILING, "nonsense")
    assert watch.server()  # it is asked all the same
    watch.record_assessment(None)
    assert watch.state is ReasonerReadiness.READY


async def test_one_that_was_away_starts_anew(watch: LlmHealth, server: Server) -> None:
    await watch.probe()
    watch.record_assessment(FAILED)
    server.status = 0
    await watch.probe()
    server.status = 200
    await watch.probe()
    assert watch.state is ReasonerReadiness.READY


async def test_a_judgement_that_met_nobody_counts_until_the_next_look(watch: LlmHealth) -> None:
    await watch.probe()
    watch.record_assessment(GONE)
    assert (watch.state, watch.detail) == (ReasonerReadiness.UNREACHABLE, "gone")
    await watch.probe()
    assert watch.state is ReasonerReadiness.READY


async def test_a_server_too_busy_for_a_look_is_there_if_it_judges(watch: LlmHealth, server: Server) -> None:
    await watch.probe()
    server.status = 0
    await watch.probe()
    watch.record_assessment(None)
    assert watch.state is ReasonerReadiness.READY


async def test_busy_is_no_state(watch: LlmHealth, server: Server) -> None:
    await watch.probe()
    since = watch.since
    watch.record_assessment(BUSY)
    server.status = 429
    await watch.probe()
    assert (watch.state, watch.since) == (ReasonerReadiness.READY, since)


async def test_a_look_that_breaks_is_not_the_last_one(server: Server) -> None:
    server.broken = True
    watch = LlmHealth(server.get, LlmEndpoint("http://host/v1", "m"), away_interval=0.01)
    looking = asyncio.create_task(watch.run())
    await until(lambda: watch.state is ReasonerReadiness.FAILING)
    server.broken = False
    await until(lambda: watch.state is ReasonerReadiness.READY)
    looking.cancel()
