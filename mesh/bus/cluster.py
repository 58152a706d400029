"""Questions to the cluster that are not reading or writing records."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaError,
    NotControllerError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.offset import OffsetRequest

from mesh.bus.address import KafkaAddress
from mesh.bus.metadata_request import TopicMetadataRequest
from mesh.problems import Denied, NotFound, Problem, Unavailable

T = TypeVar("T")

# What ListOffsets takes for a time, besides milliseconds since 1970.
END, BEGINNING = -1, -2
RETRY_SECONDS = 0.1
# A broker that has just started on a slow disk takes long to lead every new partition.
PATIENCE_SECONDS = 60.0
TOPIC_SECONDS = 1.5  # a topic just made by another process may not be seen at once


@dataclass(frozen=True)
class TopicState:
    """`leaders`: the leading broker of each partition, -1 while there is none."""

    id: str
    leaders: dict[int, int]


class Cluster:
    """Every question raises Unavailable when the cluster cannot answer it in time."""

    def __init__(self, address: KafkaAddress, client: Any) -> None:
        self.address = address
        self._client = client

    async def check(self) -> None:
        await self.ask(lambda: self._send(TopicMetadataRequest([])), patience=2.0)

    async def topic(self, name: str) -> TopicState:
        """Raises NotFound where there is no such topic."""
        return await self.ask(lambda: self._topic(name))

    async def partitions(self, names: list[str]) -> dict[str, int]:
        """How many partitions each topic has; those that do not exist are left out."""
        answer = await self.ask(lambda: self._send(TopicMetadataRequest(names)))
        return {name: len(parts) for code, name, _, _, parts, *_ in answer.topics if not code and parts}

    async def brokers(self) -> int:
        return len((await self.ask(lambda: self._send(TopicMetadataRequest([])))).brokers)

    async def ends(self, topic: str) -> dict[int, int]:
        """The offset that each partition's next record will have."""
        return await self.ask(lambda: self._offsets(topic, END))

    async def beginnings(self, topic: str) -> dict[int, int]:
        """The oldest offset kept, by partition."""
        return await self.ask(lambda: self._offsets(topic, BEGINNING))

    async def since(self, topic: str, time: datetime) -> dict[int, int]:
        """The first offset whose record is of that time or later, else the end."""
        ends = await self.ends(topic)
        found = await self.ask(lambda: self._offsets(topic, max(0, int(time.timestamp() * 1000))))
        return {partition: ends[partition] if at < 0 else at for partition, at in found.items()}

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """The group's next offset; partitions for which it never committed are left out."""
        return await self.ask(lambda: self._committed(group, topic))

    async def command(self, request: Any) -> Any:
        """Sends to the controller."""
        return await self.ask(lambda: self._command(request))

    async def ask(self, question: Callable[[], Awaitable[T]], *, patience: float = PATIENCE_SECONDS) -> T:
        """Asks until there is an answer, but no longer than `patience` seconds, and `TOPIC_SECONDS` where the
        answer is that there is no such topic."""
        loop, unknown, last = asyncio.get_running_loop(), None, None
        try:
            async with asyncio.timeout(patience):
                while True:
                    try:
                        return await question()
                    except UnknownTopicOrPartitionError as error:
                        unknown = unknown or loop.time()
                        if loop.time() - unknown > TOPIC_SECONDS:
                            raise NotFound(f"Kafka has no topic {error.args[0]}", "TOPIC_MISSING") from None
                        last = error
                    except (SaslAuthenticationFailed, TopicAuthorizationFailedError) as error:
                        raise Denied(f"Kafka refuses us: {error}", "BUS_DENIED") from None
                    except (KafkaError, OSError) as error:
                        unknown, last = None, error
                    self._client.force_metadata_update()
                    await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            raise unavailable(last) from None

    async def _send(self, request: Any, node: int | None = None) -> Any:
        return await self._client.send(self._client.get_random_node() if node is None else node, request)

    async def _command(self, request: Any) -> Any:
        controller = self._client.cluster.controller
        if controller is None:
            raise NotControllerError("no controller yet")
        return await self._send(request, controller.nodeId)

    async def _topic(self, name: str) -> TopicState:
        code, _, topic_id, _, partitions, *_ = (await self._send(TopicMetadataRequest([name]))).topics[0]
        _refuse(code, name)
        return TopicState(str(topic_id), {number: leader for _, number, leader, *_ in partitions})

    async def _offsets(self, topic: str, time: int) -> dict[int, int]:
        leaders: dict[int, list[int]] = defaultdict(list)
        for partition, leader in (await self._topic(topic)).leaders.items():
            leaders[leader].append(partition)
        found: dict[int, int] = {}
        for leader, partitions in leaders.items():
            request = OffsetRequest(-1, 0, [(topic, [(partition, time) for partition in partitions])])
            for _, answers in (await self._send(request, leader)).topics:
                for partition, code, _, offset in answers:
                    _refuse(code)
                    found[partition] = offset
        return found

    async def _committed(self, group: str, topic: str) -> dict[int, int]:
        coordinator = await self._send(FindCoordinatorRequest(group, 0))
        _refuse(coordinator.error_code)
        partitions = list((await self._topic(topic)).leaders)
        request = OffsetFetchRequest(group, [(topic, partitions)])
        answer = await self._send(request, coordinator.coordinator_id)
        # A coordinator that is still loading says so here and lists no partitions: not "never committed".
        _refuse(answer.error_code)
        committed: dict[int, int] = {}
        for _, answers in answer.topics:
            for partition, offset, _, code in answers:
                _refuse(code)
                if offset >= 0:
                    committed[partition] = offset
        return committed


def _refuse(code: int, subject: str = "") -> None:
    if code:
        raise for_code(code)(subject)


def unavailable(cause: object) -> Problem:
    return Unavailable(f"Kafka does not answer: {cause or 'no word in time'}", "BUS_UNAVAILABLE")


@asynccontextmanager
async def open_cluster(address: KafkaAddress, client_id: str, *, patience: float) -> AsyncIterator[Cluster]:
    """Waits up to `patience` seconds for the first broker to answer."""
    client = AIOKafkaClient(**address.options(client_id))
    cluster = Cluster(address, client)
    try:
        await cluster.ask(client.bootstrap, patience=patience)
        yield cluster
    finally:
        await client.close()
