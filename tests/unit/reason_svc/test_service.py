"""reason_svc as the composition root opens it, with its settings."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from lares.reason.v1 import reason_service_pb2_grpc as rpc
from lares.reason.v1.assessment_pb2 import SEVERITY_CRITICAL, SEVERITY_MEDIUM
from lares.reason.v1.events_pb2 import EventAssessed
from lares.reason.v1.reason_service_pb2 import (
    REASONER_STATE_READY,
    AssessEventRequest,
    GetReasonStatusRequest,
)
from lares.store.internal.v1 import job_service_pb2 as pb
from lares.store.internal.v1.job_service_pb2_grpc import add_JobServiceServicer_to_server
from mesh.config import Config, load_config
from mesh.mesh import Mesh
from mesh.problems import Exhausted, Invalid
from mesh.rpc import Channels, GrpcServer, call
from mesh.rpc.interceptor import CallInterceptor
from mesh.secret import Secret
from mesh.security import Door
from mesh.telemetry.metrics import Metrics
from mesh.topics import ASSESSED, Topic
from reason_svc import service
from tests.support.evidence import evidence_message
from tests.support.scripted_llm import MODEL, hangs, scripted

pytestmark = pytest.mark.usefixtures("calling_as_itself")

SECONDS = 90.0


class FakeStore:
    """Leases one event. Further calls for leases wait."""

    def __init__(self) -> None:
        self.due = [
            pb.JobLease(lease_id=str(uuid4()), attempt=1, assess=pb.AssessInput(evidence=evidence_message()))
        ]

    async def LeaseJobs(self, request: pb.LeaseJobsRequest, context: object) -> pb.LeaseJobsResponse:
        if self.due:
            return pb.LeaseJobsResponse(leases=[self.due.pop()])
        return await asyncio.Future()

    def __getattr__(self, name: str) -> Any:
        async def refuse(request: object, context: object) -> None:
            raise AssertionError(f"{name} was not expected")

        return refuse


class FakeBus:
    def __init__(self) -> None:
        self.published: asyncio.Queue[tuple[Topic[Any], EventAssessed]] = asyncio.Queue()

    async def publish(self, topic: Topic[Any], *messages: EventAssessed) -> None:
        for message in messages:
            self.published.put_nowait((topic, message))


@asynccontextmanager
async def opened(
    config: Config, url: str
) -> AsyncIterator[tuple[FakeBus, "rpc.ReasonServiceAsyncStub", Metrics]]:
    """Opens the service with a fake store. Yields the bus that it publishes to, a client and its metrics."""
    folder = config.home
    bus, server = FakeBus(), GrpcServer(CallInterceptor)
    server.add(add_JobServiceServicer_to_server, cast(Any, FakeStore()), "lares.store.internal.v1.JobService")
    address = await server.listen(f"unix:{folder}/s", door=Door.SIBLINGS)
    channels = Channels({}, {"store": address, "reason": address})
    mesh = Mesh(
        config,
        cast(Any, bus),
        cast(Any, None),
        server,
        channels,
        cast(Any, None),
        reasoner_url=Secret.of(url),
    )
    async with service.open(config, mesh):
        await server.start()
        yield bus, rpc.ReasonServiceStub(mesh.channel("reason")), mesh.metrics
    assert not mesh.failure.done()
    await channels.close()
    await server.stop(0)


async def test_it_assesses_events_and_evidence_of_clients(tmp_path: Path) -> None:
    config = load_config(
        home=tmp_path, severity_medium=5, severity_high=10, severity_critical=15, event_max_detections=2
    )
    async with opened(config, "rules:") as (bus, stub, _):
        topic, fact = await asyncio.wait_for(bus.published.get(), SECONDS)
        assert topic is ASSESSED
        assert fact.assessment.severity == SEVERITY_CRITICAL
        evidence = evidence_message()
        assert (await call(stub.AssessEvent, AssessEventRequest(evidence=evidence))).assessment.score == 15
        evidence.detections.extend(2 * [evidence.detections[0]])
        with pytest.raises(Invalid, match="at most 2 detections"):
            await call(stub.AssessEvent, AssessEventRequest(evidence=evidence))


async def test_an_llm_assesses_both_and_reports_its_status(tmp_path: Path) -> None:
    # The URL that counts is that of the Mesh: the composition root may have started the server.
    config = load_config(home=tmp_path, reasoner_url="llama:/model.gguf")
    async with scripted() as llm, opened(config, llm.url()) as (bus, stub, metrics):
        _, fact = await asyncio.wait_for(bus.published.get(), SECONDS)
        answer = await call(stub.AssessEvent, AssessEventRequest(evidence=evidence_message()))
        for assessment in (fact.assessment, answer.assessment):
            assert (assessment.score, assessment.severity) == (55, SEVERITY_MEDIUM)
            assert (assessment.reasoner, assessment.model, assessment.rules_score) == ("llama.cpp", MODEL, 15)
            assert (assessment.prompt_tokens, assessment.cached_tokens, assessment.completion_tokens) == (
                100,
                60,
                10,
            )
            assert len(assessment.prompt_hash) == 64
            assert not assessment.raw_answer
            assert [factor.factor for factor in assessment.factors[-2:]] == ["mode", "reason"]
            assert list(assessment.factors[-1].detection_ids) == [evidence_message().detections[0].id]
        for reply in (fact, answer):
            assert reply.raw_answer.startswith("{")
        status = await call(stub.GetReasonStatus, GetReasonStatusRequest())
        assert (status.reasoner, status.state, status.slots) == ("llama.cpp", REASONER_STATE_READY, 3)
        assert (status.model, list(status.models)) == (MODEL, [MODEL, "rules/v2", "rules/v1"])
        assert (status.prompt, list(status.prompts)) == ("v2", ["v1", "v1-short", "v2"])
        assert (status.assessed, status.failed, status.prompt_tokens) == (1, 0, 200)
        shown = (await metrics.text()).decode().splitlines()
        assert [line for line in shown if line.startswith("lares_reasoner_tokens")] == [
            'lares_reasoner_tokens_total{kind="prompt"} 200.0',
            'lares_reasoner_tokens_total{kind="cached"} 120.0',
            'lares_reasoner_tokens_total{kind="completion"} 20.0',
        ]


async def test_too_many_calls_at_the_same_time_are_refused(tmp_path: Path) -> None:
    config, request = load_config(home=tmp_path), AssessEventRequest(evidence=evidence_message())
    async with scripted() as llm, opened(config, f"{llm.url()}&slots=4") as (bus, stub, _):
        await asyncio.wait_for(bus.published.get(), SECONDS)
        llm.always = hangs
        # Two of the four slots are reserved for events.
        asked = [asyncio.ensure_future(call(stub.AssessEvent, request)) for _ in range(3)]
        done, waiting = await asyncio.wait(asked, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        assert len(waiting) == 2
        with pytest.raises(Exhausted, match="2 AssessEvent calls are in progress"):
            done.pop().result()


async def test_an_unknown_reasoner_stops_the_start(tmp_path: Path) -> None:
    config, nothing = load_config(home=tmp_path), cast(Any, None)
    mesh = Mesh(config, nothing, nothing, nothing, nothing, nothing, reasoner_url=Secret.of("oracle:delphi"))
    with pytest.raises(Invalid, match="LARES_REASONER_URL"):
        async with service.open(config, mesh):
            raise AssertionError("opened")
