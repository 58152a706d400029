"""Requests to the cluster other than reading and writing records."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    KafkaError,
    NotControllerError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.offset import OffsetRequest

from mesh.bus.access import KafkaAccess
from mesh.bus.metadata_request import TopicMetadataRequest
from mesh.problems import Conflict, Denied, NotFound, Problem, Unavailable
from mesh.retry import Backoff

T = TypeVar("T")

# What ListOffsets takes in the place of a time.
END, BEGINNING = -1, -2
# Between attempts, here and in every other module of the bus.
BACKOFF = Backoff(0.1, 0.5)
# A broker that has just started on a slow disk needs long to elect a leader for every new partition.
PATIENCE_SECONDS = 60.0
NOT_ALLOWED_TEXTS = {
    TopicAuthorizationFailedError: "topic",
    GroupAuthorizationFailedError: "group",
    ClusterAuthorizationFailedError: "the cluster in this way",
}
NOT_ALLOWED = tuple(NOT_ALLOWED_TEXTS)
# What aiokafka raises if the broker does not know a request, or no version of it that aiokafka knows.
TOO_OLD = (IncompatibleBrokerVersion, NotImplementedError)
TOPIC_SECONDS = 1.5  # a topic that another process has just created may not be visible yet


@dataclass(frozen=True)
class TopicState:
    """`leaders` has the leading broker of each partition, or -1."""

    id: str
    leaders: dict[int, int]


class Cluster:
    """Every method raises Unavailable if the cluster does not answer in time, Denied if this user may not do
    it, and Conflict if the cluster is too old for it.

    A login that is refused later than at the start is Unavailable, too, with the reason: while a password is
    replaced, Kafka and this process learn of it at different moments.
    """

    def __init__(self, access: KafkaAccess, client: Any) -> None:
        self.access = access
        self._client = client
        # The leaders of topics' partitions, of which offsets are asked.
        self._leaders: dict[str, dict[int, int]] = {}

    async def check(self) -> None:
        """Raises Unavailable if no broker answers within 2 s."""
        await self.attempt(lambda: self._send(TopicMetadataRequest([])), patience=2.0)

    async def topic(self, name: str) -> TopicState:
        """Raises NotFound if there is no such topic."""
        return await self.attempt(lambda: self._topic(name))

    async def partitions(self, names: list[str]) -> dict[str, int]:
        """Returns the number of partitions of each topic that exists."""
        return {name: len(replicas) for name, replicas in (await self.replicas(names)).items()}

    async def replicas(self, names: list[str]) -> dict[str, list[int]]:
        """Returns, for each topic that exists, the number of replicas of each partition."""
        return await self.attempt(lambda: self._replicas(names))

    async def brokers(self) -> int:
        """Returns the number of brokers."""
        return len((await self.attempt(lambda: self._send(TopicMetadataRequest([])))).brokers)

    async def ends(self, topic: str) -> dict[int, int]:
        """Returns, by partition, the offset that the next record will get."""
        return await self.attempt(lambda: self._offsets(topic, END))

    async def beginnings(self, topic: str) -> dict[int, int]:
        """Returns, by partition, the offset of the oldest record that is kept."""
        return await self.attempt(lambda: self._offsets(topic, BEGINNING))

    async def since(self, topic: str, time: datetime) -> dict[int, int]:
        """Returns, by partition, the first offset with this or a later time, otherwise the end."""
        ends = await self.ends(topic)
        found = await self.attempt(lambda: self._offsets(topic, max(0, int(time.timestamp() * 1000))))
        return {partition: ends[partition] if at < 0 else at for partition, at in found.items()}

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """Returns the group's next offset of each partition for which it has committed one."""
        return await self.attempt(lambda: self._committed(group, topic))

    async def members(self, group: str) -> int:
        """Returns how many members the group has now."""
        return await self.attempt(lambda: self._members(group))

    async def ask(self, request: Any) -> Any:
        """Sends a request to any broker."""
        return await self.attempt(lambda: self._send(request))

    async def command(self, request: Any) -> Any:
        """Sends a request to the controller."""
        return await self.attempt(lambda: self._command(request))

    async def attempt(self, work: Callable[[], Awaitable[T]], *, patience: float = PATIENCE_SECONDS) -> T:
        """Repeats `work` until it succeeds.

        Raises Unavailable after `patience` seconds, NotFound if the cluster has said for 1.5 s that there is
        no such topic, and Denied and Conflict at once.
        """
        loop, failures, unknown_since, last = asyncio.get_running_loop(), 0, None, None
        try:
            async with asyncio.timeout(patience):
                while True:
                    try:
                        return await work()
                    except UnknownTopicOrPartitionError as error:
                        unknown_since, last = unknown_since or loop.time(), error
                        if loop.time() - unknown_since > TOPIC_SECONDS:
                            raise NotFound(f"Kafka has no topic {error.args[0]}", "TOPIC_MISSING") from None
                    except NOT_ALLOWED as error:
                        raise denied(error) from None
                    except TOO_OLD as error:
                        raise Conflict(f"this Kafka is too old for Lares: {error}", "BUS_TOO_OLD") from None
                    except (KafkaError, OSError) as error:
                        unknown_since, last = None, error
                    failures += 1
                    self._client.force_metadata_update()
                    await asyncio.sleep(BACKOFF.pause(failures))
        except TimeoutError:
            raise unavailable(self.access.failure or last) from None

    async def _send(self, request: Any, node: int | None = None) -> Any:
        return await self._client.send(self._client.get_random_node() if node is None else node, request)

    async def _command(self, request: Any) -> Any:
        controller = self._client.cluster.controller
        if controller is None:
            raise NotControllerError("no controller yet")
        return await self._send(request, controller.nodeId)

    async def _replicas(self, names: list[str]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for code, name, _, _, partitions, *_ in (await self._send(TopicMetadataRequest(names))).topics:
            if code == TopicAuthorizationFailedError.errno:  # said of missing topics, too
                raise TopicAuthorizationFailedError(name)
            if not code and partitions:
                found[name] = [len(replicas) for _, _, _, _, replicas, *_ in partitions]
        return found

    async def _topic(self, name: str) -> TopicState:
        code, _, topic_id, _, partitions, *_ = (await self._send(TopicMetadataRequest([name]))).topics[0]
        _raise_for(code, name)
        leaders = {number: leader for _, number, leader, *_ in partitions}
        self._leaders[name] = leaders
        return TopicState(str(topic_id), leaders)

    async def _offsets(self, topic: str, time: int) -> dict[int, int]:
        leaders = self._leaders.get(topic) or (await self._topic(topic)).leaders
        try:
            return await self._offsets_from(leaders, topic, time)
        except BaseException:
            # Another broker may lead now. A caller that gives up sooner than a request counts, too: a broker
            # that hangs would otherwise be asked again and again.
            self._leaders.pop(topic, None)
            raise

    async def _offsets_from(self, leaders: dict[int, int], topic: str, time: int) -> dict[int, int]:
        by_leader: dict[int, list[int]] = defaultdict(list)
        for partition, leader in leaders.items():
            by_leader[leader].append(partition)
        found: dict[int, int] = {}
        for leader, partitions in by_leader.items():
            request = OffsetRequest(-1, 0, [(topic, [(partition, time) for partition in partitions])])
            for _, answers in (await self._send(request, leader)).topics:
                for partition, code, _, offset in answers:
                    _raise_for(code, topic)
                    found[partition] = offset
        return found

    async def _coordinator(self, group: str) -> int:
        coordinator = await self._send(FindCoordinatorRequest(group, 0))
        _raise_for(coordinator.error_code, group)
        return int(coordinator.coordinator_id)

    async def _members(self, group: str) -> int:
        request = DescribeGroupsRequest([group])
        answer = await self._send(request, await self._coordinator(group))
        (code, _, _, _, _, members), *_ = answer.groups
        _raise_for(code, group)
        return len(members)

    async def _committed(self, group: str, topic: str) -> dict[int, int]:
        coordinator = await self._coordinator(group)
        partitions = list((await self._topic(topic)).leaders)
        request = OffsetFetchRequest(group, [(topic, partitions)])
        answer = await self._send(request, coordinator)
        # A coordinator that is still loading reports it here and lists no partitions. That must not be taken
        # for "never committed".
        _raise_for(answer.error_code)
        committed: dict[int, int] = {}
        for _, answers in answer.topics:
            for partition, offset, _, code in answers:
                _raise_for(code)
                if offset >= 0:
                    committed[partition] = offset
        return committed


def _raise_for(code: int, subject: str = "") -> None:
    if code:
        raise for_code(code)(subject)


def unavailable(cause: object) -> Problem:
    if isinstance(cause, Problem):
        return Unavailable(cause.message, cause.reason)
    return Unavailable(f"Kafka does not answer: {cause or 'no response in time'}", "BUS_UNAVAILABLE")


def denied(cause: KafkaError) -> Problem:
    what = next(text for kind, text in NOT_ALLOWED_TEXTS.items() if isinstance(cause, kind))
    subject = cause.args[0] if cause.args else ""
    names = ", ".join(sorted(subject)) if isinstance(subject, set | frozenset) else str(subject or "")
    return Denied(
        f"this user of Kafka may not use {what}{f' {names}' if names else ''}: docs/deploy.md lists what each"
        " service needs",
        "BUS_DENIED",
    )


@asynccontextmanager
async def open_cluster(access: KafkaAccess, client_id: str, *, patience: float) -> AsyncIterator[Cluster]:
    """Waits up to `patience` seconds for the first broker to answer. Raises Denied or Invalid at once if a
    broker does not let this process in, or is not the one that it claims to be."""
    client = AIOKafkaClient(**access.options(client_id))
    cluster = Cluster(access, client)

    async def bootstrap() -> None:
        access.refusal = None
        try:
            await client.bootstrap()
        except KafkaError:
            if access.refusal:
                raise access.refusal from None
            if access.failure is None and access.address.mechanism is None:
                raise KafkaConnectionError(
                    "it closes connections at once; LARES_BUS_URL has no login"
                ) from None
            raise

    try:
        await cluster.attempt(bootstrap, patience=patience)
        yield cluster
    finally:
        await client.close()
