"""The way in: one cluster, one producer, streams and tails."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from itertools import count
from typing import Any

from opentelemetry.trace import Span

from mesh.bus.address import KafkaAddress
from mesh.bus.cluster import Cluster, open_cluster
from mesh.bus.group_member import GroupSubscription
from mesh.bus.log_filter import filtered_log
from mesh.bus.publisher import Publisher, open_publisher
from mesh.bus.record import encode
from mesh.bus.stream import Stream, open_stream
from mesh.bus.tail import Tail, open_tail
from mesh.bus.topic_creation import create_topics
from mesh.delivery import OffsetStore, Start
from mesh.problems import Problem
from mesh.telemetry.spans import end_spans
from mesh.telemetry.trace_context import outgoing_headers
from mesh.topics import DEAD_LETTER_SERVICES, TOPICS, M, Topic

CONNECT_SECONDS = 30.0


class Bus:
    """Made by `open_bus`. Everything here waits out a broker that restarts."""

    def __init__(self, cluster: Cluster, publisher: Publisher, instance: str | None) -> None:
        self._cluster, self._publisher, self._instance = cluster, publisher, instance
        self._members: set[str] = set()

    async def create_topics(
        self,
        topics: Iterable[Topic[Any]] = TOPICS,
        dead_letter_services: Iterable[str] = DEAD_LETTER_SERVICES,
    ) -> None:
        """Makes those that are missing, with their partitions, retention and clean-up; leaves the others
        alone. Raises Conflict where one has another number of partitions."""
        await create_topics(self._cluster, topics, dead_letter_services)

    async def publish(
        self,
        topic: Topic[M],
        *messages: M,
        headers: Mapping[str, str] | None = None,
        parents: Sequence[Span] = (),
    ) -> None:
        """Returns when all are durable (acks=all). In order for each key; at least once, should the producer
        have to be replaced. The current request id and trace go along as headers; `headers` are added to
        them. `parents`, if there are any: the span that each message follows from.

        Raises Invalid for a message that is none of the topic's or too large, NotFound where the topic is
        missing, Unavailable when the cluster does not take it for 60 s: it may have been written, or may yet
        be.
        """
        told = outgoing_headers() | dict(headers or {})
        whose: Sequence[Span | None] = parents or [None] * len(messages)
        records = [
            encode(topic, message, told, parent) for message, parent in zip(messages, whose, strict=True)
        ]
        spans = [record.span for record in records]
        try:
            await self._publisher.send(records)
        except Problem as problem:
            end_spans(spans, problem)
            raise
        end_spans(spans)

    def consume(
        self, topic: Topic[M], group: str, *, offsets: OffsetStore | None = None, buffer: int = 1000
    ) -> AbstractAsyncContextManager[Stream[M]]:
        """Reads in the name of `group`, whose members share the partitions; begins where the group left off,
        and at the beginning where it never was. With `offsets` they are the truth, and Kafka's only mirror
        them.

        `group` is a service's name: records requeued for another service are passed over, and what can never
        be processed goes to `dead_letters(group)`. Raises NotFound, Unavailable.
        """
        return self._consume(topic, group, offsets, buffer)

    @asynccontextmanager
    async def _consume(
        self, topic: Topic[M], group: str, offsets: OffsetStore | None, buffer: int
    ) -> AsyncIterator[Stream[M]]:
        state = await self._cluster.topic(topic.name)
        with self._member(f"{group}:{topic.name}") as instance:
            subscription = GroupSubscription(topic, state.id, group, offsets, instance)
            async with open_stream(self._cluster, self._publisher, subscription, buffer) as stream:
                yield stream

    @contextmanager
    def _member(self, group: str) -> Iterator[str | None]:
        """A name for one of this process's members of a group, the same after a restart."""
        if self._instance is None:
            yield None
            return
        names = (f"{self._instance}:{group}:{number}" for number in count())
        name = next(name for name in names if name not in self._members)
        self._members.add(name)
        try:
            yield name
        finally:
            self._members.discard(name)

    def tail(self, topic: Topic[M], *, start: Start = "end") -> AbstractAsyncContextManager[Tail[M]]:
        """Reads all partitions, in nobody's name. Where it begins is settled when the block is entered."""
        return open_tail(self._cluster, topic, start)

    async def check(self) -> None:
        """Raises Unavailable where the cluster does not answer within 2 s."""
        await self._cluster.check()


@asynccontextmanager
async def open_bus(url: str, *, client_id: str, instance: str | None = None) -> AsyncIterator[Bus]:
    """`url` is `kafka://[user:password@]host:port[,host:port]`. Waits 30 s for a broker; raises Invalid,
    Unavailable.

    `instance` names this process among all that use the cluster, the same after a restart: then it takes its
    partitions back at once, where otherwise a member that was killed keeps them for 10 s. No two may share
    one.
    """
    address = KafkaAddress.parse(url)
    with filtered_log():
        async with (
            open_cluster(address, client_id, patience=CONNECT_SECONDS) as cluster,
            open_publisher(cluster, client_id) as publisher,
        ):
            yield Bus(cluster, publisher, instance)
