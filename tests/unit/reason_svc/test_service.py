"""The judge as the composition root opens it: its settings reach the place where they count."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from lares.reason.v1.assessment_pb2 import SEVERITY_CRITICAL
from lares.reason.v1.events_pb2 import EventAssessed
from lares.reason.v1.reason_service_pb2 import AssessEventRequest
from lares.reason.v1.reason_service_pb2_grpc import ReasonServiceStub
from lares.store.v1 import event_service_pb2 as pb
from lares.store.v1.event_service_pb2_grpc import add_EventServiceServicer_to_server
from mesh.boundary import Boundary
from mesh.config import load_config
from mesh.mesh import Mesh
from mesh.problems import Invalid
from mesh.rpc import Channels, Server, call
from mesh.topics import ASSESSED, Topic
from reason_svc import service
from tests.support.evidence import evidence_message

SECONDS = 90.0


class FakeStore:
    """Has one event due; everything else waits."""

    def __init__(self) -> None:
        self.due = [pb.EventLease(lease_id="1", evidence=evidence_message(), attempt=1)]

    async def LeaseEvents(self, request: pb.LeaseEventsRequest, context: object) -> pb.LeaseEventsResponse:
        if self.due:
            return pb.LeaseEventsResponse(leases=[self.due.pop()])
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


async def test_it_judges_for_the_store_and_for_programs(tmp_path: Path) -> None:
    config = load_config(
        home=tmp_path, severity_medium=5, severity_high=10, severity_critical=40, event_max_detections=2
    )
    bus, server = FakeBus(), Server([Boundary(None)])
    server.add(add_EventServiceServicer_to_server, cast(Any, FakeStore()), "lares.store.v1.EventService")
    address = await server.listen(f"unix:{tmp_path}/s")
    channels = Channels({"store": address, "reason": address}, {})
    mesh = Mesh(config, cast(Any, bus), cast(Any, None), server, channels, cast(Any, None))
    async with service.open(config, mesh):
        await server.start()
        topic, fact = await asyncio.wait_for(bus.published.get(), SECONDS)
        assert topic is ASSESSED
        assert fact.assessment.severity == SEVERITY_CRITICAL
        stub = ReasonServiceStub(mesh.channel("reason"))
        evidence = evidence_message()
        assert (await call(stub.AssessEvent, AssessEventRequest(evidence=evidence))).assessment.score == 40
        evidence.detections.extend(2 * [evidence.detections[0]])
        with pytest.raises(Invalid, match="at most 2 detections"):
            await call(stub.AssessEvent, AssessEventRequest(evidence=evidence))
    assert not mesh.failure.done()
    await channels.close()
    await server.stop(0)


async def test_an_unknown_judge_stops_the_start(tmp_path: Path) -> None:
    config = load_config(home=tmp_path, reasoner_url="oracle:delphi")
    with pytest.raises(Invalid, match="LARES_REASONER_URL"):
        async with service.open(config, cast(Any, None)):
            raise AssertionError("opened")
