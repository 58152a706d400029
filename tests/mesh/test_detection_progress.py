"""How far detect_svc has come, as ingest_svc learns it from detect_svc or from the store."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from detect_svc.api import ProgressServicer
from ingest_svc.detection_progress import DetectionProgress
from ingest_svc.turns import PartitionProgress
from lares.detect.internal.v1.progress_service_pb2_grpc import add_ProgressServiceServicer_to_server
from lares.store.internal.v1.offset_service_pb2_grpc import add_OffsetServiceServicer_to_server
from mesh.problems import Unavailable
from mesh.rpc import Channels, GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door
from mesh.topics import INGESTED, Topic
from tests.support.ingest_process import FakeOffsetService

pytestmark = pytest.mark.usefixtures("calling_as_itself")

END = 100


class FakeTopic:
    """With four partitions."""

    def __init__(self) -> None:
        self.oldest = dict.fromkeys(range(4), 0)

    async def topic_id(self, topic: Topic[Any]) -> str:
        assert topic is INGESTED
        return "id"

    async def beginnings(self, topic: Topic[Any]) -> dict[int, int]:
        return self.oldest

    async def ends(self, topic: Topic[Any]) -> dict[int, int]:
        return dict.fromkeys(self.oldest, END)


@pytest.fixture
def topic() -> FakeTopic:
    return FakeTopic()


@pytest.fixture
def processed() -> dict[int, int]:
    return {}


@pytest.fixture
def published() -> dict[int, int]:
    return {}


@pytest.fixture
async def siblings(
    processed: dict[int, int], published: dict[int, int], tmp_path: Path
) -> AsyncIterator[dict[str, str]]:
    """The addresses of detect_svc, and of a store with the offsets 10, 20 and 30."""
    offsets = FakeOffsetService()
    await offsets.save(INGESTED.name, "", {0: 10, 1: 20, 2: 30})
    services: dict[str, tuple[Any, Any, str]] = {
        "store": (add_OffsetServiceServicer_to_server, offsets, "lares.store.internal.v1.OffsetService"),
        "detect": (
            add_ProgressServiceServicer_to_server,
            ProgressServicer(lambda: processed, lambda: published),
            "lares.detect.internal.v1.ProgressService",
        ),
    }
    servers, addresses = list[GrpcServer](), dict[str, str]()
    for name, (add, servicer, service) in services.items():
        server = GrpcServer(CallInterceptor)
        server.add(add, servicer, service)
        addresses[name] = await server.listen(f"unix:{tmp_path / name}", door=Door.SIBLINGS)
        await server.start()
        servers.append(server)
    yield addresses
    for server in servers:
        await server.stop(0)


async def read(topic: FakeTopic, addresses: dict[str, str]) -> list[tuple[int, int]]:
    """By partition, what is detected and what is published."""
    channels = Channels({}, addresses)
    try:
        found = await DetectionProgress(topic, channels.to("store"), channels.replicas).read()
    finally:
        await channels.close()
    assert [progress.end for progress in found.values()] == [END] * 4
    return [(found[at].detected, found[at].published) for at in range(4)]


STORED = [(10, 10), (20, 20), (30, 30), (0, 0)]


async def test_what_detect_svc_says_counts_and_else_what_the_store_says(
    topic: FakeTopic, siblings: dict[str, str], processed: dict[int, int], published: dict[int, int]
) -> None:
    assert await read(topic, siblings) == STORED
    processed |= {1: 25, 3: 5}
    published |= {1: 22, 3: 4}
    assert await read(topic, siblings) == [(10, 10), (25, 22), (30, 30), (5, 4)]


async def test_the_store_is_asked_while_detect_svc_is_away_or_if_its_address_is_unknown(
    topic: FakeTopic,
    siblings: dict[str, str],
    processed: dict[int, int],
    published: dict[int, int],
    tmp_path: Path,
) -> None:
    processed |= {1: 25}
    published |= {1: 22}
    store = siblings["store"]
    assert await read(topic, {"store": store, "detect": f"unix:{tmp_path / 'away'}"}) == STORED
    assert await read(topic, {"store": store}) == STORED
    assert await read(topic, {"store": store, "detect": store}) == STORED  # of an earlier version


async def test_without_the_store_nothing_is_known_of_partitions_that_detect_svc_does_not_read(
    topic: FakeTopic,
    siblings: dict[str, str],
    processed: dict[int, int],
    published: dict[int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mesh.offset_client.LOAD_SECONDS", 0.5)
    for offsets in (processed, published):
        offsets |= {0: 1, 1: 2, 2: 3}
    away = siblings | {"store": f"unix:{tmp_path / 'no-store'}"}
    with pytest.raises(Unavailable):
        await read(topic, away)
    for offsets in (processed, published):
        offsets[3] = 4
    assert await read(topic, away) == [(1, 1), (2, 2), (3, 3), (4, 4)]


async def test_records_that_are_gone_do_not_count(topic: FakeTopic, siblings: dict[str, str]) -> None:
    """detect_svc was away for longer than the topic keeps records."""
    topic.oldest |= {0: 50, 3: END}
    assert await read(topic, siblings) == [(50, 50), (20, 20), (30, 30), (END, END)]


def test_nobody_is_beyond_the_end() -> None:
    assert PartitionProgress(110, 105, END).undetected == 0
    assert PartitionProgress(110, 105, END).unpublished == 0
