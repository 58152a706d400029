"""One service alone in its process: what it says of itself while its parts come and go."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, Replica
from tests.support.parts import running_kafka, running_postgres
from tests.support.waiting import until_async

COUNTS = {"store": 1, "reason": 1, "gateway": 1, "detect": 1, "ingest": 1}


@pytest.fixture
async def kafka() -> AsyncIterator[str]:
    async with running_kafka() as url:
        yield url


def alone(folder: Path, service: str, **settings: str) -> Replica:
    (replica,) = Cluster(folder, settings, COUNTS).of[service]
    return replica


async def states(replica: Replica) -> tuple[bool, ...]:
    return tuple([await replica.says(path) for path in ("/live", "/started", "/ready")])


async def test_a_store_is_live_without_its_database_and_not_ready(tmp_path: Path, kafka: str) -> None:
    async with running_postgres() as database:
        settings = {"LARES_BUS_URL": kafka, "LARES_DATABASE_URL": database}
        replica = alone(tmp_path, "store", **settings)
        replica.start()
        try:
            await replica.until_ready()
            assert await states(replica) == (True, True, True)
            answer = await replica.answer("/metrics")
            assert answer
            lines = answer.text.splitlines()
            assert 'lares_dependency_ready{dependency="postgres"} 1.0' in lines
            assert "lares_started 1.0" in lines
            assert any(line.startswith("process_resident_memory_bytes ") for line in lines)
            lag = 'lares_consumer_lag_records{partition="0",topic="detect.detections.v1"} 0.0'

            async def lag_is_measured() -> bool:
                answer = await replica.answer("/metrics")
                return answer is not None and lag in answer.text.splitlines()

            await until_async(lag_is_measured)
        except BaseException:
            await replica.close()
            raise
    try:  # the database is gone

        async def not_ready() -> bool:
            return not await replica.says("/ready")

        await until_async(not_ready)
        assert await states(replica) == (True, True, False)
        answer = await replica.answer("/ready")
        assert answer
        assert answer.json()["checks"] == {
            "kafka": True,
            "postgres": False,
            "blobs": True,
            "watch_policy": False,
        }
    finally:
        await replica.close()


async def test_a_gateway_without_kafka_answers_clients_and_says_so_to_a_load_balancer(tmp_path: Path) -> None:
    async with running_postgres() as database, AsyncExitStack() as broker:
        kafka = await broker.enter_async_context(running_kafka())
        cluster = Cluster(tmp_path, {"LARES_BUS_URL": kafka, "LARES_DATABASE_URL": database}, COUNTS)
        (store,), (gateway,) = cluster.of["store"], cluster.of["gateway"]
        try:
            store.start()
            gateway.start()
            await gateway.until_ready()
            await broker.aclose()

            async def not_ready() -> bool:
                return not await gateway.says("/ready")

            await until_async(not_ready)
            # As deploy/k8s asks.
            assert await gateway.says("/ready?without=kafka,blobs,store")
            answer = await gateway.answer("/ready")
            assert answer
            assert answer.json()["checks"].keys() == {"kafka", "blobs", "store", "certificate"}
            assert (await gateway.graphql("{ cameras { id } }")) == {"cameras": []}
        finally:
            await gateway.close()
            await store.close()


@pytest.mark.parametrize("service", ["store", "reason", "detect", "ingest", "gateway"])
async def test_a_process_that_waits_for_kafka_is_live_and_has_not_started(
    tmp_path: Path, service: str
) -> None:
    replica = alone(
        tmp_path,
        service,
        LARES_BUS_URL="kafka://127.0.0.1:9",
        LARES_DATABASE_URL="postgresql://nobody@127.0.0.1:9/nothing",
    )
    replica.start()
    try:

        async def answers() -> bool:
            return await replica.answer("/live") is not None

        await until_async(answers)
        assert await states(replica) == (True, False, False)
        assert await replica.terminate() != 0  # it was told to end before it was ready
    finally:
        await replica.close()
