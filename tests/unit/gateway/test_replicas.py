"""The state of services that several replicas run: one answer of those that answer."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import grpc
import pytest
from structlog.testing import capture_logs

from gateway.http.sibling_metrics import SiblingMetrics
from gateway.replicas import detect_status, ingest_status, list_gpus, reason_status
from gateway.siblings import Siblings
from lares.detect.v1.detect_service_pb2 import DetectorServer, Gpu
from lares.reason.v1 import reason_service_pb2 as reason
from lares.reason.v1.reason_service_pb2_grpc import ReasonServiceStub
from mesh.problems import Unavailable
from mesh.rpc import Channels, GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from mesh.rpc.replicas import ask_each
from mesh.security import Door
from tests.unit.gateway.fake_services import add_services
from tests.unit.gateway.fake_store import FakeStore

pytestmark = pytest.mark.usefixtures("calling_as_itself")


@dataclass
class Two:
    """Two replicas of each service, as the gateway sees them."""

    first: FakeStore
    second: FakeStore
    siblings: Siblings


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    async with AsyncExitStack() as stack:
        stores, addresses = (FakeStore(), FakeStore()), list[str]()
        for number, store in enumerate(stores):
            server = GrpcServer(CallInterceptor)
            add_services(store, server)
            addresses.append(await server.listen(f"unix:{tmp_path}/{number}", door=Door.SIBLINGS))
            await server.start()
            stack.push_async_callback(server.stop, 0)
        channels = [
            Channels({}, dict.fromkeys(("store", "ingest", "detect", "reason"), address))
            for address in addresses
        ]
        for opened in channels:
            stack.push_async_callback(opened.close)

        async def replicas(service: str) -> list[grpc.aio.Channel]:
            return [one.to(service) for one in channels]

        yield Two(*stores, Siblings(channels[0].to, replicas))


async def test_the_reasoner_is_ready_if_one_replica_is_and_counts_are_sums(two: Two) -> None:
    two.first.reason = reason.GetReasonStatusResponse(
        state=reason.REASONER_STATE_UNREACHABLE, detail="no route", slots=2, assessed=5, prompt_tokens=7
    )
    two.second.reason = reason.GetReasonStatusResponse(
        state=reason.REASONER_STATE_READY, model="m", slots=3, assessing=1, assessed=6
    )
    found = await reason_status(two.siblings)
    assert (found.state, found.detail, found.model) == (reason.REASONER_STATE_READY, "", "m")
    assert (found.slots, found.assessing, found.assessed, found.prompt_tokens) == (5, 1, 11, 7)


async def test_the_lag_is_that_of_whoever_knows_most(two: Two) -> None:
    two.first.detect.lag, two.second.detect.lag = 7, 4
    two.first.detect.detail = "Triton is away"
    two.second.detect.ready, two.second.detect.detector = True, "net@1"
    two.first.detect.servers.append(DetectorServer(address="a:1", in_flight=1, answered=10, failed=2))
    two.second.detect.servers.append(DetectorServer(address="a:1", available=True, in_flight=2, answered=5))
    two.second.detect.servers.append(DetectorServer(address="b:1"))
    found = await detect_status(two.siblings)
    assert (found.lag, found.ready, found.detail, found.detector) == (4, True, "", "net@1")
    assert list(found.servers) == [
        DetectorServer(address="a:1", available=True, in_flight=3, answered=15, failed=2),
        DetectorServer(address="b:1"),
    ]


async def test_a_lag_that_one_replica_does_not_know_is_told_by_another(two: Two) -> None:
    two.first.detect.problem = two.second.detect.problem = "Kafka does not answer"
    two.second.detect.ready = True
    found = await detect_status(two.siblings)
    assert (found.lag, found.problem, found.ready) == (0, "Kafka does not answer", True)
    two.second.detect.problem, two.second.detect.lag = "", 5
    found = await detect_status(two.siblings)
    assert (found.lag, found.problem, found.ready) == (5, "", True)


async def test_gpus_of_all_machines_are_listed_once(two: Two) -> None:
    for store, uuids in ((two.first, ("GPU-a", "GPU-b")), (two.second, ("GPU-b", "GPU-c"))):
        for index, uuid in enumerate(uuids):
            store.gpus.gpus.append(Gpu(index=index, uuid=uuid, name="H200", memory_total_bytes=1))
    assert [gpu.uuid for gpu in (await list_gpus(two.siblings, 0)).gpus] == ["GPU-a", "GPU-b", "GPU-c"]
    text = (await SiblingMetrics(two.siblings).text()).decode()
    total = [line for line in text.splitlines() if line.startswith("lares_gpu_memory_total_bytes{")]
    assert len(total) == len({line.split()[0] for line in total}) == 3  # Prometheus refuses a series twice


async def test_what_several_ingest_services_see(two: Two) -> None:
    two.first.ingest.settling, two.second.ingest.settling = 1, 2
    two.first.ingest.unannounced, two.second.ingest.unannounced = 4, 8
    two.first.ingest.unreadable_folders.extend(["yard", "attic"])
    two.second.ingest.unreadable_folders.extend(["attic", "cellar"])
    two.second.ingest.scanning, two.second.ingest.problem = True, "the disk is full"
    two.first.ingest.warnings.append("FTP without TLS")
    two.second.ingest.warnings.append("FTP without TLS")
    found = await ingest_status(two.siblings)
    assert (found.settling, found.scanning, found.problem) == (3, True, "the disk is full")
    assert list(found.warnings) == ["FTP without TLS"]
    assert found.unannounced == 12
    assert list(found.unreadable_folders) == ["yard", "attic", "cellar"]


async def test_an_ingest_service_that_does_not_answer_may_have_work(two: Two) -> None:
    assert not (await ingest_status(two.siblings)).scanning
    two.second.failing["GetIngestStatus"] = Unavailable("the process is stopping", "STOPPING")
    two.first.ingest.settling = 1
    found = await ingest_status(two.siblings)
    assert (found.settling, found.scanning, found.problem) == (1, True, "")


async def test_the_best_state_of_a_reasoner_counts(two: Two) -> None:
    """From the best to the worst: each is told if the other replica is in one that is worse."""
    states = (
        reason.REASONER_STATE_READY,
        reason.REASONER_STATE_LOADING,
        reason.REASONER_STATE_FAILING,
        reason.REASONER_STATE_UNREACHABLE,
        reason.REASONER_STATE_UNSPECIFIED,
    )
    assert set(states) == set(reason.ReasonerState.values())
    for better, worse in pairwise(states):
        two.first.reason.state, two.second.reason.state = worse, better
        assert (await reason_status(two.siblings)).state == better


async def test_any_known_state_counts_rather_than_one_that_a_newer_version_has(two: Two) -> None:
    newer = max(reason.ReasonerState.values()) + 1
    for known in set(reason.ReasonerState.values()) - {reason.REASONER_STATE_UNSPECIFIED}:
        for one, other in ((two.first, two.second), (two.second, two.first)):
            one.reason.state, other.reason.state = known, cast(reason.ReasonerState.ValueType, newer)
            assert (await reason_status(two.siblings)).state == known


async def test_each_number_of_reasoners_is_a_sum(two: Two) -> None:
    """Of all numbers in the contract, also of those that are added to it."""
    fields = reason.GetReasonStatusResponse.DESCRIPTOR.fields
    numbers = [
        field.name
        for field in fields
        if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64) and not field.is_repeated
    ]
    assert "completion_tokens" in numbers
    for number, name in enumerate(numbers):
        setattr(two.first.reason, name, 1)
        setattr(two.second.reason, name, 10 + number)
    found = await reason_status(two.siblings)
    assert [getattr(found, name) for name in numbers] == [11 + number for number in range(len(numbers))]


async def test_a_bug_is_not_taken_for_a_replica_that_is_away(two: Two) -> None:
    async def broken(*_: object, **__: object) -> object:
        raise TypeError("a bug")

    well, ill = await two.siblings.replicas("reason")

    def method(channel: grpc.aio.Channel) -> Callable[..., Awaitable[object]]:
        return broken if channel is ill else ReasonServiceStub(channel).GetReasonStatus

    with pytest.raises(TypeError):
        await ask_each([well, ill], method, reason.GetReasonStatusRequest(), timeout=90)


async def test_replicas_that_do_not_answer_are_left_out(two: Two) -> None:
    two.first.reason.assessed, two.second.reason.assessed = 5, 6
    two.first.failing["GetReasonStatus"] = Unavailable("the process is stopping", "STOPPING")
    with capture_logs():
        assert (await reason_status(two.siblings)).assessed == 6
        two.second.failing["GetReasonStatus"] = Unavailable("the process is stopping", "STOPPING")
        with pytest.raises(Unavailable):
            await reason_status(two.siblings, 1.0)
