"""Writes records durably."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    UnknownTopicOrPartitionError,
)

from mesh.bus.aiokafka_internals import stop_producer
from mesh.bus.cluster import BACKOFF, NOT_ALLOWED, Cluster, denied, unavailable
from mesh.bus.measures import PUBLISH_SECONDS, PUBLISHED
from mesh.bus.record import Outgoing
from mesh.problems import Invalid, Unavailable
from mesh.retry import retry
from mesh.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

# A broker that restarts is back within seconds. After a minute, the caller has to decide.
PATIENCE_SECONDS = 60.0
BATCH_BYTES = 256 * 1024


class Publisher:
    """One idempotent producer with acks=all. It is replaced after an error from which it cannot recover."""

    def __init__(self, cluster: Cluster, client_id: str, metrics: Metrics) -> None:
        self._cluster = cluster
        self._client_id = client_id
        self._published, self._seconds = metrics.counter(PUBLISHED), metrics.histogram(PUBLISH_SECONDS)
        self._producer: Any = None
        self._starting = asyncio.Lock()
        self._known_topics: set[str] = set()

    async def send(self, records: Sequence[Outgoing]) -> None:
        """Returns when all records are durable, in this order within each partition.

        Raises Unavailable after 60 s; the records may still become durable later. If the caller is
        cancelled, records that were passed to the producer are still written.
        """
        began, unsent, failures = time.perf_counter(), list(records), 0
        failure: Exception | None = None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while unsent:
                    unsent, failure = await self._attempt(unsent)
                    if failure is not None:
                        failures += 1
                        log.warning("publishing failed, retrying", records=len(unsent), error=repr(failure))
                        await asyncio.sleep(BACKOFF.pause(failures))
        except TimeoutError:
            raise unavailable(self._cluster.access.failure or failure) from None
        if records:
            self._seconds.observe(time.perf_counter() - began)
            for topic, count in Counter(record.topic for record in records).items():
                self._published.labels(topic).inc(count)

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_producer(producer)

    async def _attempt(self, records: list[Outgoing]) -> tuple[list[Outgoing], Exception | None]:
        """Returns the records that are not durable, and the reason."""
        acks: list[asyncio.Future[Any]] = []
        failure: Exception | None = None
        try:
            await self._require_topics({record.topic for record in records})
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
                ack.add_done_callback(_retrieve_exception)
        if acks:
            await asyncio.wait(acks)
        errors = [ack.exception() for ack in acks]
        failure = next((error for error in errors if isinstance(error, Exception)), failure)
        if failure is None:
            return [], None
        await self._handle(failure, producer)
        failed = [record for record, error in zip(records, errors, strict=False) if error is not None]
        return failed + records[len(acks) :], failure

    async def _handle(self, failure: Exception, producer: Any) -> None:
        """Replaces a producer that cannot go on. Raises Invalid, Denied if a retry would not help."""
        if isinstance(failure, UnknownTopicOrPartitionError):
            self._known_topics.clear()
        elif not getattr(failure, "retriable", False) and self._producer is producer:
            # The broker expects unbroken sequence numbers: after it has refused a batch, it refuses all that
            # follow (https://github.com/aio-libs/aiokafka/issues/1017).
            self._producer = None
            await stop_producer(producer)
        if isinstance(failure, MessageSizeTooLargeError):
            raise Invalid("Kafka does not accept a message of this size", "MESSAGE_TOO_LARGE") from None
        if isinstance(failure, NOT_ALLOWED):
            raise denied(failure) from None

    async def _require_topics(self, topics: set[str]) -> None:
        """Raises NotFound if a topic does not exist. aiokafka would wait for it."""
        for topic in topics - self._known_topics:
            await self._cluster.topic(topic)
            self._known_topics.add(topic)

    async def start(self) -> Any:
        """Returns the started producer. Waits for the cluster without a limit."""
        async with self._starting:
            if self._producer is None:
                self._producer = await retry(
                    self._start,
                    "start the Kafka producer",
                    backoff=BACKOFF,
                    retry_on=lambda error: isinstance(error, (KafkaError, OSError)),
                )
        return self._producer

    async def _start(self) -> Any:
        producer = AIOKafkaProducer(
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            linger_ms=0,
            max_batch_size=BATCH_BYTES,
            **self._cluster.access.options(self._client_id),
        )
        try:
            await producer.start()
        except (KafkaError, OSError) as error:
            await stop_producer(producer)
            raise self._cluster.access.explained(error) from None
        except BaseException:
            await stop_producer(producer)
            raise
        return producer


def _retrieve_exception(ack: "asyncio.Future[Any]") -> None:
    """Without this, asyncio logs the error of a future whose caller was cancelled as never retrieved."""
    if not ack.cancelled():
        ack.exception()


@asynccontextmanager
async def open_publisher(cluster: Cluster, client_id: str, metrics: Metrics) -> AsyncIterator[Publisher]:
    publisher = Publisher(cluster, client_id, metrics)
    try:
        yield publisher
    finally:
        await publisher.close()
