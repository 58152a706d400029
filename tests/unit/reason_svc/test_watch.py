"""What is thought of a server, look by look and judgement by judgement."""

import asyncio

import pytest

from mesh.problems import Exhausted, Internal, Problem, Unavailable
from reason_svc.address import Address
from reason_svc.reasoner import State
from reason_svc.replies import Reply
from reason_svc.watch import Watch
from tests.support.waiting import until

FAILED = Internal("nonsense", "BAD_ANSWER")
GONE = Unavailable("gone", "LLM_UNREACHABLE")
BUSY = Exhausted("busy", "LLM_BUSY")


class Server:
    """Answers every look with this status, or is not there."""

    def __init__(self) -> None:
        self.status = 200
        self.broken = False

    async def get(self, url: str) -> Reply:
        if self.broken:
            raise ValueError("nobody thought of this")
        if not self.status:
            raise Unavailable("no connection", "LLM_UNREACHABLE")
        return Reply(self.status, "", {"data": [{"id": "m", "owned_by": "vllm"}]})


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def watch(server: Server) -> Watch:
    return Watch(server.get, Address("http://host/v1", "m"))


async def test_nobody_can_be_asked_before_the_first_look(watch: Watch) -> None:
    assert (watch.state, watch.seen) == (State.UNREACHABLE, None)
    with pytest.raises(Unavailable):
        watch.server()
    await watch.look()
    assert (watch.state, watch.detail) == (State.READY, "")
    assert watch.server() is watch.seen


@pytest.mark.parametrize(
    ("status", "state", "kind"),
    [
        (0, State.UNREACHABLE, Unavailable),
        (502, State.UNREACHABLE, Unavailable),
        (503, State.LOADING, Unavailable),
        (401, State.FAILING, Internal),
        (500, State.FAILING, Internal),
    ],
)
async def test_a_look_that_finds_it_away(
    watch: Watch, server: Server, status: int, state: State, kind: type[Problem]
) -> None:
    await watch.look()
    server.status = status
    await watch.look()
    assert watch.state is state
    assert watch.detail
    with pytest.raises(kind):
        watch.server()
    server.status = 200
    await watch.look()
    assert watch.state is State.READY


async def test_a_good_look_mends_no_bad_judgement_but_a_good_judgement_does(watch: Watch) -> None:
    await watch.look()
    watch.judged(FAILED)
    await watch.look()
    assert (watch.state, watch.detail) == (State.FAILING, "nonsense")
    assert watch.server()  # it is asked all the same
    watch.judged(None)
    assert watch.state is State.READY


async def test_one_that_was_away_starts_anew(watch: Watch, server: Server) -> None:
    await watch.look()
    watch.judged(FAILED)
    server.status = 0
    await watch.look()
    server.status = 200
    await watch.look()
    assert watch.state is State.READY


async def test_a_judgement_that_met_nobody_counts_until_the_next_look(watch: Watch) -> None:
    await watch.look()
    watch.judged(GONE)
    assert (watch.state, watch.detail) == (State.UNREACHABLE, "gone")
    await watch.look()
    assert watch.state is State.READY


async def test_a_server_too_busy_for_a_look_is_there_if_it_judges(watch: Watch, server: Server) -> None:
    await watch.look()
    server.status = 0
    await watch.look()
    watch.judged(None)
    assert watch.state is State.READY


async def test_busy_is_no_state(watch: Watch, server: Server) -> None:
    await watch.look()
    since = watch.since
    watch.judged(BUSY)
    server.status = 429
    await watch.look()
    assert (watch.state, watch.since) == (State.READY, since)


async def test_a_look_that_breaks_is_not_the_last_one(server: Server) -> None:
    server.broken = True
    watch = Watch(server.get, Address("http://host/v1", "m"), away=0.01)
    looking = asyncio.create_task(watch.run())
    await until(lambda: watch.state is State.FAILING)
    server.broken = False
    await until(lambda: watch.state is State.READY)
    looking.cancel()
