"""Requests to the cluster, with a fake client."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from aiokafka.errors import KafkaConnectionError

from mesh.bus import cluster as cluster_module
from mesh.bus.address import KafkaAddress
from mesh.bus.cluster import Cluster
from mesh.problems import NotFound, Unavailable

LOADING, UNKNOWN_TOPIC = 14, 3


class FakeClient:
    """Returns the given answers, by the class of the request."""

    def __init__(self, **answers: list[Any]) -> None:
        self._answers: dict[str, Iterator[Any]] = {kind: iter(given) for kind, given in answers.items()}

    def get_random_node(self) -> int:
        return 1

    def force_metadata_update(self) -> None:
        pass

    async def send(self, _: int, request: Any) -> Any:
        answer = next(self._answers[type(request).__name__])
        if isinstance(answer, Exception):
            raise answer
        return answer


def topics(code: int = 0) -> Any:
    partitions = [(0, number, 1) for number in range(2)]
    return SimpleNamespace(topics=[(code, "t", UUID(int=7), False, partitions, 0, {})], brokers=[1])


def cluster(**answers: list[Any]) -> Cluster:
    return Cluster(KafkaAddress.parse("kafka://a:1"), FakeClient(**answers))


async def test_a_coordinator_that_is_loading_is_asked_again() -> None:
    coordinator = SimpleNamespace(error_code=0, coordinator_id=1)
    loading = SimpleNamespace(error_code=LOADING, topics=[])
    loaded = SimpleNamespace(error_code=0, topics=[("t", [(0, 5, "", 0), (1, -1, "", 0)])])
    asked = cluster(
        FindCoordinatorRequest=[coordinator] * 2,
        TopicMetadataRequest=[topics()] * 2,
        OffsetFetchRequest=[loading, loaded],
    )
    assert await asked.committed("g", "t") == {0: 5}


async def test_a_request_is_repeated_after_a_connection_error() -> None:
    asked = cluster(TopicMetadataRequest=[KafkaConnectionError("closed"), topics()])
    state = await asked.topic("t")
    assert (state.id, state.leaders) == (str(UUID(int=7)), {0: 1, 1: 1})


async def test_a_topic_that_stays_unknown_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "TOPIC_SECONDS", 0.0)
    with pytest.raises(NotFound) as missing:
        await cluster(TopicMetadataRequest=[topics(UNKNOWN_TOPIC)] * 9).topic("t")
    assert missing.value.reason == "TOPIC_MISSING"


async def test_a_cluster_that_does_not_answer_in_time_is_unavailable() -> None:
    with pytest.raises(Unavailable) as away:
        away_for_long = cluster(TopicMetadataRequest=[KafkaConnectionError("closed")] * 100)
        await away_for_long.attempt(lambda: away_for_long._topic("t"), patience=0.3)
    assert away.value.retryable
    assert "closed" in away.value.message
