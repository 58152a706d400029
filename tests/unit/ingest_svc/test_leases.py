"""The leases that ingest_svc holds in the store are extended in time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ingest_svc.leases import Leases
from lares.store.internal.v1 import lease_service_pb2 as pb
from lares.store.internal.v1.lease_service_pb2_grpc import add_LeaseServiceServicer_to_server
from mesh.lease_clock import lease_time
from mesh.problems import Unavailable
from mesh.rpc import GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from tests.support.fake_leases import FakeLeaseService
from tests.support.waiting import until

# A lease of 0.4 s is to be extended every 0.1 s.
SECONDS = 0.4
pytestmark = pytest.mark.usefixtures("calling_as_itself")


class LeaseService(FakeLeaseService):
    """Counts how often each lease is to be extended. While `is_away` it does not extend any."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = Counter[int]()
        self.is_away = False

    async def ExtendLeases(self, request: pb.ExtendLeasesRequest, context: Any) -> Any:
        self.asked.update(request.tokens)
        if self.is_away:
            raise Unavailable("the store restarts", "STORE_AWAY")
        return await super().ExtendLeases(request, context)


@pytest.fixture
def service() -> LeaseService:
    return LeaseService()


@pytest.fixture
async def leases(service: LeaseService) -> AsyncIterator[Leases]:
    server = GrpcServer(CallInterceptor)
    server.add(add_LeaseServiceServicer_to_server, service, "lares.store.internal.v1.LeaseService")
    await server.start()
    leases = Leases(server.channel(), "this process")
    running = asyncio.create_task(leases.run())
    yield leases
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await server.stop(0)


async def test_a_lease_is_extended_however_often_others_are_taken(
    service: LeaseService, leases: Leases
) -> None:
    """As by the uploads of many cameras, each of which has one for a moment."""
    lease = await leases.take("folder/a", SECONDS)
    assert not isinstance(lease, str)

    async def take_others() -> None:
        for number in range(10**6):
            leases.forget(leases.keep(-number - 1, 30.0, lease_time()))
            await asyncio.sleep(0.005)

    others = asyncio.create_task(take_others())
    try:
        await until(lambda: service.asked[lease.token] >= 5 or lease.lost, 20)
    finally:
        others.cancel()
    assert not lease.lost


async def test_each_lease_is_extended_within_its_own_length(service: LeaseService, leases: Leases) -> None:
    long = leases.keep(-1, 10**6, lease_time())
    short = await leases.take("folder/a", SECONDS)
    assert not isinstance(short, str)
    await until(lambda: service.asked[short.token] >= 5)
    assert not short.lost
    leases.forget(long)


async def test_a_store_that_is_away_is_not_asked_all_the_time(service: LeaseService, leases: Leases) -> None:
    service.is_away = True
    lease = await leases.take("folder/a", 40.0)
    assert not isinstance(lease, str)
    lease.asked = -1e6  # it is time
    others = [leases.keep(-number - 1, 30.0, lease_time()) for number in range(50)]
    await until(lambda: service.asked[lease.token])
    for _ in range(50):  # each of which wakes the loop
        leases.forget(leases.keep(-99, 30.0, lease_time()))
        await asyncio.sleep(0.001)
    assert service.asked[lease.token] == 1
    for other in others:
        leases.forget(other)
