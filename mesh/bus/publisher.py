"""Writes records, and comes back when they are durable."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    ProducerClosed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from mesh.bus.cluster import RETRY_SECONDS, Cluster, unavailable
from mesh.bus.record import Outgoing
from mesh.problems import Denied, Invalid, Unavailable

log = structlog.get_logger(__name__)

# A broker that restarts is back within seconds; one that is away for longer is somebody else's problem.
PATIENCE_SECONDS = 60.0
CLOSE_SECONDS = 2.0
BATCH_BYTES = 256 * 1024


class Publisher:
    """One idempotent producer, acks=all; made anew when it gets into a state it cannot leave."""

    def __init__(self, cluster: Cluster, client_id: str) -> None:
        self._cluster = cluster
        self._client_id = client_id
        self._producer: Any = None
        self._starting = asyncio.Lock()
        self._known: set[str] = set()

    async def send(self, records: Sequence[Outgoing], *, patience: float = PATIENCE_SECONDS) -> None:
        """Returns when all are durable, in this order within each partition.

        Raises Unavailable after `patience` seconds; the records may become durable later even so. A caller
        that is cancelled leaves the records that are under way under way.
        """
        left = list(records)
        failure: Exception | None = None
        try:
            async with asyncio.timeout(patience):
                while left:
                    left, failure = await self._attempt(left)
                    if failure is not None:
                        log.warning("publishing again", records=len(left), error=repr(failure))
                        await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            raise unavailable(failure) from None

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _end(producer)

    async def _attempt(self, records: list[Outgoing]) -> tuple[list[Outgoing], Exception | None]:
        """Returns the records that are not durable, and why."""
        acks: list[asyncio.Future[Any]] = []
        failure: Exception | None = None
        try:
            await self._expect({record.topic for record in records})
            producer = await self.start()
            for record in records:
                acks.append(
                    await producer.send(record.topic, record.value, record.key, headers=list(record.headers))
                )
        except Unavailable as error:
            return records, error
        except (KafkaError, OSError) as error:
            failure = error
        finally:
            for ack in acks:
                ack.add_done_callback(_look)
        if acks:
            await asyncio.wait(acks)
        errors = [ack.exception() for ack in acks]
        failure = next((error for error in errors if isinstance(error, Exception)), failure)
        if failure is None:
            return [], None
        await self._handle_failure(producer, failure)
        failed = [record for record, error in zip(records, errors, strict=False) if error is not None]
        return failed + records[len(acks) :], failure

    async def _handle_failure(self, producer: Any, failure: Exception) -> None:
        """Raises where trying again would not help; replaces a producer that cannot go on."""
        if isinstance(failure, UnknownTopicOrPartitionError):
            self._known.clear()
        elif not getattr(failure, "retriable", False) and self._producer is producer:
            # The broker counts on an unbroken sequence: after a batch it refused, it refuses all later ones.
            self._producer = None
            await _end(producer)
        if isinstance(failure, MessageSizeTooLargeError):
            raise Invalid("Kafka takes no message of that size", "MESSAGE_TOO_LARGE") from None
        if isinstance(failure, TopicAuthorizationFailedError):
            raise Denied(f"Kafka refuses us: {failure}", "BUS_DENIED") from None

    async def _expect(self, topics: set[str]) -> None:
        """Raises NotFound for a topic that does not exist: aiokafka would only wait for it."""
        for topic in topics - self._known:
            await self._cluster.topic(topic)
            self._known.add(topic)

    async def start(self) -> Any:
        """The producer, started; waits for the cluster as long as it takes."""
        async with self._starting:
            while self._producer is None:
                producer = AIOKafkaProducer(
                    acks="all",
                    enable_idempotence=True,
                    compression_type="lz4",
                    linger_ms=0,
                    max_batch_size=BATCH_BYTES,
                    **self._cluster.address.options(self._client_id),
                )
                try:
                    await producer.start()
                except (KafkaError, OSError):
                    await _end(producer)
                    await asyncio.sleep(RETRY_SECONDS)
                except BaseException:
                    await _end(producer)
                    raise
                else:
                    self._producer = producer
        return self._producer


def _look(ack: "asyncio.Future[Any]") -> None:
    """Nobody may be waiting any more: an error nobody looks at would be logged as forgotten."""
    if not ack.cancelled():
        ack.exception()


async def _end(producer: Any) -> None:
    stopping = asyncio.ensure_future(producer.stop())
    done, _ = await asyncio.wait([stopping], timeout=CLOSE_SECONDS)
    if not done:
        # It flushes first, and without a broker it would do so for ever.
        producer._message_accumulator.fail_all(ProducerClosed())
        await asyncio.wait([stopping], timeout=CLOSE_SECONDS)
    if not stopping.done():
        stopping.cancel()


@asynccontextmanager
async def open_publisher(cluster: Cluster, client_id: str) -> AsyncIterator[Publisher]:
    publisher = Publisher(cluster, client_id)
    try:
        yield publisher
    finally:
        await publisher.close()
