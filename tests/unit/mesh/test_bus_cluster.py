"""What is asked of a cluster to learn the offsets of a topic, with a client that answers from memory."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import IncompatibleBrokerVersion, NotLeaderForPartitionError
from aiokafka.protocol.offset import OffsetRequest

from mesh.bus.access import KafkaAccess
from mesh.bus.cluster import Cluster
from mesh.bus.metadata_request import TopicMetadataRequest
from mesh.problems import Conflict
from mesh.retry import Backoff


class FakeClient:
    """Two brokers. Partition 0 is led by `leader`; another broker refuses. `hangs`: no offsets come."""

    def __init__(self) -> None:
        self.leader, self.hangs = 1, False
        self.asked: list[str] = []

    async def send(self, node: int, request: Any) -> Any:
        if isinstance(request, TopicMetadataRequest):
            self.asked.append("metadata")
            partition: tuple[Any, ...] = (0, 0, self.leader, 0, [], [], [], {})
            return SimpleNamespace(topics=[(0, "t", "id-1", False, [partition])])
        assert isinstance(request, OffsetRequest)
        self.asked.append(f"offsets of {node}")
        if self.hangs:
            await asyncio.Event().wait()
        code = 0 if node == self.leader else NotLeaderForPartitionError.errno
        return SimpleNamespace(topics=[("t", [(0, code, -1, 42)])])

    def get_random_node(self) -> int:
        return 1

    def force_metadata_update(self) -> None: ...


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def cluster(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr("mesh.bus.cluster.BACKOFF", Backoff(0.001, 0.001))
    return Cluster(KafkaAccess("kafka://localhost:1"), client)


async def test_leaders_are_asked_for_once(cluster: Cluster, client: FakeClient) -> None:
    assert [await cluster.ends("t") for _ in range(3)] == [{0: 42}] * 3
    assert client.asked == ["metadata", *["offsets of 1"] * 3]


async def test_a_new_leader_is_found(cluster: Cluster, client: FakeClient) -> None:
    await cluster.ends("t")
    client.leader = 2
    assert await cluster.ends("t") == {0: 42}
    assert client.asked[2:] == ["offsets of 1", "metadata", "offsets of 2"]


async def test_a_leader_that_hangs_is_not_remembered(cluster: Cluster, client: FakeClient) -> None:
    """The caller gives up long before the request would."""
    await cluster.ends("t")
    client.hangs = True
    asking = asyncio.create_task(cluster.ends("t"))
    while len(client.asked) < 3:
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    client.hangs, client.leader = False, 2
    assert await cluster.ends("t") == {0: 42}
    assert client.asked[3:] == ["metadata", "offsets of 2"]


@pytest.mark.parametrize(
    "error", [NotImplementedError("Support for v9"), IncompatibleBrokerVersion("no v12")]
)
async def test_a_kafka_that_is_too_old_is_said_at_once(cluster: Cluster, error: Exception) -> None:
    async def ask() -> None:
        raise error

    with pytest.raises(Conflict, match="too old") as refused:
        await cluster.attempt(ask)
    assert refused.value.reason == "BUS_TOO_OLD"
