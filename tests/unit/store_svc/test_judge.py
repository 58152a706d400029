"""What the store hears of the judge, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from lares.reason.v1.reason_service_pb2 import (
    JUDGE_STATE_FAILING,
    JUDGE_STATE_UNREACHABLE,
    AssessEventResponse,
    GetReasonStatusRequest,
    GetReasonStatusResponse,
)
from lares.reason.v1.reason_service_pb2_grpc import (
    ReasonServiceServicer,
    add_ReasonServiceServicer_to_server,
)
from mesh.boundary import Boundary
from mesh.rpc import Channels, Server
from mesh.security import Door
from store_svc.judge import ask_judge

pytestmark = pytest.mark.usefixtures("calling_as_itself")

SAID = GetReasonStatusResponse(state=JUDGE_STATE_FAILING, detail="no JSON", judged=7)


class Judge(ReasonServiceServicer):
    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.answers.set()

    async def GetReasonStatus(
        self, request: GetReasonStatusRequest, context: object
    ) -> GetReasonStatusResponse:
        await self.answers.wait()
        return SAID

    async def AssessEvent(self, request: object, context: object) -> AssessEventResponse:
        raise AssertionError("the store has nothing to be judged")


@pytest.fixture
async def judge(tmp_path: Path) -> AsyncIterator[tuple[Judge, Channels]]:
    servicer, server = Judge(), Server(Boundary)
    server.add(add_ReasonServiceServicer_to_server, servicer, "lares.reason.v1.ReasonService")
    channels = Channels(
        {}, {"reason": await server.listen(f"unix:{tmp_path}/reason.sock", door=Door.SIBLINGS)}
    )
    await server.start()
    yield servicer, channels
    await channels.close()
    await server.stop(0)


async def test_what_it_says_of_itself(judge: tuple[Judge, Channels]) -> None:
    assert await ask_judge(partial(judge[1].to, "reason")) == SAID


async def test_one_that_says_nothing_is_unreachable(
    judge: tuple[Judge, Channels], monkeypatch: pytest.MonkeyPatch
) -> None:
    servicer, channels = judge
    monkeypatch.setattr("store_svc.judge.SECONDS", 0.2)
    servicer.answers.clear()
    answer = await ask_judge(partial(channels.to, "reason"))
    assert answer.state == JUDGE_STATE_UNREACHABLE
    assert answer.detail.startswith("reason_svc does not answer: ")
    servicer.answers.set()


async def test_so_is_one_that_is_nowhere(tmp_path: Path) -> None:
    for local in ({"reason": f"unix:{tmp_path}/nobody.sock"}, {}):
        channels = Channels({}, local)
        answer = await ask_judge(partial(channels.to, "reason"))
        assert answer.state == JUDGE_STATE_UNREACHABLE
        await channels.close()
    assert "LARES_PEERS" in answer.detail
