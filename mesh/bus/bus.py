"""The entry point of the bus: publishing, streams of groups, and tails."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from itertools import count
from typing import Any

from aiokafka.partitioner import murmur2
from opentelemetry.trace import Span

from mesh.bus.access import KafkaAccess
from mesh.bus.cluster import Cluster, open_cluster
from mesh.bus.group_member import GroupSubscription
from mesh.bus.log_filter import filtered_log
from mesh.bus.publisher import Publisher, open_publisher
from mesh.bus.record import encode
from mesh.bus.settings import DEFAULT, BusSettings
from mesh.bus.stream import Stream, open_stream
from mesh.bus.tail import Tail, open_tail
from mesh.bus.topic_creation import create_topics
from mesh.bus.topic_layout import partitions_of, wanted_topics
from mesh.delivery import OffsetStore, Start
from mesh.problems import Problem
from mesh.secret import Secret
from mesh.telemetry.metrics import Metrics
from mesh.telemetry.spans import end_spans
from mesh.telemetry.trace_context import outgoing_headers
from mesh.topics import DEAD_LETTER_SERVICES, TOPICS, M, Topic

CONNECT_SECONDS = 30.0


class Bus:
    """Created by `open_bus`. Every method waits while a broker restarts."""

    def __init__(
        self, cluster: Cluster, publisher: Publisher, instance: str | None, metrics: Metrics
    ) -> None:
        self._cluster, self._publisher, self._instance = cluster, publisher, instance
        self._metrics = metrics
        self._member_names: set[str] = set()

    async def create_topics(
        self,
        topics: Iterable[Topic[Any]] = TOPICS,
        dead_letter_services: Iterable[str] = DEAD_LETTER_SERVICES,
    ) -> None:
        """Creates the missing topics with their partitions, replicas, retention and clean-up policy, and
        leaves existing ones as they are. Raises Conflict if one has another number of partitions, and Denied
        if this user may not see one, or may not create one that is missing."""
        settings = self._cluster.access.settings
        await create_topics(self._cluster, wanted_topics(settings, topics, dead_letter_services), settings)

    async def topic_id(self, topic: Topic[Any]) -> str:
        """Returns Kafka's id of the topic: one that is created anew has another. Raises NotFound,
        Unavailable."""
        return (await self._cluster.topic(topic.name)).id

    async def publish(
        self,
        topic: Topic[M],
        *messages: M,
        headers: Mapping[str, str] | None = None,
        parents: Sequence[Span] = (),
    ) -> None:
        """Publishes messages and returns when all are durable (acks=all).

        Messages with the same key keep their order. If the producer has to be replaced, they may be
        written twice. `headers` are added to those of the current request id and trace. `parents`, if
        given, has for each message the span that it follows from.

        Raises Invalid if a message is not of the topic's type or too large, NotFound if the topic does not
        exist, and Unavailable if the cluster has not confirmed the messages within 60 s; they may have been
        written, or be written later.
        """
        all_headers = outgoing_headers() | dict(headers or {})
        each_parent: Sequence[Span | None] = parents or [None] * len(messages)
        records = [
            encode(topic, message, all_headers, parent)
            for message, parent in zip(messages, each_parent, strict=True)
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
        """Reads as a member of `group`; members share the partitions.

        Starts at the group's committed offset, or at the beginning for a new group. Whoever may join the
        group can commit any offset. With `offsets`, that store decides where to start, and the offsets in
        Kafka are only a copy for tools that show the lag, written every 5 s.

        `group` is a service's name: records that are requeued for another service are skipped, and records
        that can never be processed go to `dead_letters(group)`. Raises NotFound, Unavailable.
        """
        return self._consume(topic, group, offsets, buffer)

    @asynccontextmanager
    async def _consume(
        self, topic: Topic[M], group: str, offsets: OffsetStore | None, buffer: int
    ) -> AsyncIterator[Stream[M]]:
        state = await self._cluster.topic(topic.name)
        with self._member_name(f"{group}:{topic.name}") as instance:
            subscription = GroupSubscription(topic, state.id, group, offsets, instance)
            async with open_stream(
                self._cluster, self._publisher, subscription, buffer, self._metrics
            ) as stream:
                yield stream

    @contextmanager
    def _member_name(self, group: str) -> Iterator[str | None]:
        """Reserves a name for one member of a group in this process. A restarted process uses the same
        names."""
        if self._instance is None:
            yield None
            return
        names = (f"{self._instance}:{group}:{number}" for number in count())
        name = next(name for name in names if name not in self._member_names)
        self._member_names.add(name)
        try:
            yield name
        finally:
            self._member_names.discard(name)

    def tail(self, topic: Topic[M], *, start: Start = "end") -> AbstractAsyncContextManager[Tail[M]]:
        """Reads all partitions without a group. The offsets to start at are determined when the block is
        entered."""
        return open_tail(self._cluster, topic, start)

    async def beginnings(self, topic: Topic[Any]) -> dict[int, int]:
        """Returns, by partition, the offset of the oldest record that is kept. Raises NotFound,
        Unavailable."""
        return await self._cluster.beginnings(topic.name)

    async def ends(self, topic: Topic[Any]) -> dict[int, int]:
        """Returns, by partition, the offset that the next record will get. Raises NotFound, Unavailable."""
        return await self._cluster.ends(topic.name)

    def partition(self, topic: Topic[Any], key: str) -> int:
        """Returns the partition of all records of the topic with this key, as Kafka's producers choose it."""
        chosen: int = (murmur2(key.encode()) & 0x7FFFFFFF) % self.partitions(topic)
        return chosen

    def partitions(self, topic: Topic[Any]) -> int:
        """Returns how many partitions the topic has, which `create_topics` has verified."""
        return partitions_of(topic, self._cluster.access.settings)

    async def check(self) -> None:
        """Raises Unavailable if the cluster does not answer within 2 s."""
        await self._cluster.check()


@asynccontextmanager
async def open_bus(
    url: str | Secret,
    *,
    client_id: str,
    instance: str | None = None,
    settings: BusSettings = DEFAULT,
    metrics: Metrics | None = None,
) -> AsyncIterator[Bus]:
    """Connects to the Kafka that LARES_BUS_URL names. Waits up to 30 s for a broker; raises Invalid,
    Unavailable, and Denied if a broker does not let this process in or is not trusted.

    `url` is read again when Kafka refuses its login.

    `instance` is a name of this process that is unique in the cluster and stays the same after a restart.
    With it, a restarted process gets its partitions back at once; without it, the broker keeps them for a
    killed member for 10 s, or what `settings` say. What the bus does is measured in `metrics`.
    """
    metrics = metrics or Metrics()
    access = KafkaAccess(url, settings)
    with filtered_log():
        async with (
            open_cluster(access, client_id, patience=CONNECT_SECONDS) as cluster,
            open_publisher(cluster, client_id, metrics) as publisher,
        ):
            yield Bus(cluster, publisher, instance, metrics)
