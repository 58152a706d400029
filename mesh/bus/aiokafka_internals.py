"""Everything that Lares does with private parts of aiokafka, as of version 0.14.0.

Check this module when the version changes. What it works around:

- `AIOKafkaConsumer.stop` waits without a limit for a consumer that is joining its group, or whose heartbeat
  does not end (https://github.com/aio-libs/aiokafka/issues/773).
- `AIOKafkaProducer.stop` flushes first, and without a broker it never returns
  (https://github.com/aio-libs/aiokafka/issues/1101, https://github.com/aio-libs/aiokafka/issues/1013).
- A client keeps the login with which it was made, makes a TLS connection with the certificates of that time,
  and says only that there is no connection, whatever the reason. So `ConnectionMaker` makes every connection.
- A refused bearer token goes unnoticed: the broker answers with an error in words of its own and waits to be
  asked for the real one (RFC 7628, 3.2.3).
- With TLS, closing a connection takes until the broker has read that it ends, which it does not while it
holds
  a fetch. So such a connection is aborted.
- A consumer whose positions are set at the moment in which one of its requests ends takes that request for
  one that goes on. It then fetches nothing for `consumer_timeout_ms`, unless something wakes it.
"""

import asyncio
from abc import abstractmethod
from typing import Any

import aiokafka.client
import aiokafka.conn
import structlog
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import ProducerClosed

log = structlog.get_logger(__name__)

CONSUMER_STOP_SECONDS = 3.0
CANCEL_SECONDS = 1.0
PRODUCER_STOP_SECONDS = 2.0
# When to wake a consumer after its positions were set. Each may be such a moment again, but hardly all.
WAKE_SECONDS = (0.01, 0.05, 0.2)


class ConnectionMaker(AbstractTokenProvider):  # type: ignore[misc]
    """Makes the connections of the aiokafka clients that have it as their `sasl_oauth_token_provider`: that
    is the one argument which they pass on as it is, whatever the mechanism."""

    @abstractmethod
    async def connect(self, host: str, port: int, **options: Any) -> Any:
        """Returns what `open_connection` returns, or raises KafkaError. `options` are those of the client."""


async def open_connection(host: str, port: int, **options: Any) -> Any:
    """Opens a connection and logs in, as aiokafka does it."""
    connection = await aiokafka.conn.create_conn(host, port, **options)
    if options["security_protocol"].endswith("SSL"):
        writer = connection._writer
        writer.close = writer.transport.abort
    return connection


async def _connect(host: str, port: int, **options: Any) -> Any:
    maker = options.get("sasl_oauth_token_provider")
    connect = maker.connect if isinstance(maker, ConnectionMaker) else open_connection
    return await connect(host, port, **options)


class _OAuthAuthenticator(aiokafka.conn.OAuthAuthenticator):  # type: ignore[misc]
    async def step(self, payload: bytes | None) -> tuple[bytes | str, bool] | None:
        if payload:  # an error in JSON
            return b"\x01", True
        step: tuple[bytes | str, bool] | None = await super().step(payload)
        return step


aiokafka.client.create_conn = _connect
aiokafka.conn.OAuthAuthenticator = _OAuthAuthenticator


async def wake_fetcher(consumer: Any) -> None:
    """Lets a consumer look again what it can fetch, several times within 0.3 s. Call it after `seek`."""
    fetcher = consumer._fetcher
    for pause in WAKE_SECONDS:
        await asyncio.sleep(pause)
        fetcher._notify(fetcher._wait_consume_future)


async def stop_consumer(consumer: Any) -> None:
    """Stops a consumer within about 4 s.

    One that does not stop by itself would go on sending heartbeats: it would keep its partitions without
    reading them. So its tasks are cancelled and its connections closed.
    """
    stopping = asyncio.ensure_future(consumer.stop())
    await asyncio.wait([stopping], timeout=CONSUMER_STOP_SECONDS)
    if stopping.done() and not stopping.cancelled() and stopping.exception() is None:
        return
    log.info("consumer did not stop, cancelling its tasks")
    tasks = {stopping, *_tasks(consumer)}
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
    # What waited for the connections to close has been cancelled, so they may count as cancelled themselves.
    closing = asyncio.ensure_future(consumer._client.close())
    await asyncio.wait([closing], timeout=CANCEL_SECONDS)
    if closing.done() and not closing.cancelled():
        closing.exception()


async def stop_producer(producer: Any) -> None:
    """Stops a producer within about 4 s. Records that cannot be written within the first 2 s fail."""
    stopping = asyncio.ensure_future(producer.stop())
    done, _ = await asyncio.wait([stopping], timeout=PRODUCER_STOP_SECONDS)
    if not done:
        producer._message_accumulator.fail_all(ProducerClosed())
        await asyncio.wait([stopping], timeout=PRODUCER_STOP_SECONDS)
    if not stopping.done():
        stopping.cancel()


def _tasks(consumer: Any) -> set["asyncio.Future[Any]"]:
    coordinator, fetcher = consumer._coordinator, consumer._fetcher
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")
    tasks = {getattr(coordinator, name, None) for name in names} | {getattr(fetcher, "_fetch_task", None)}
    tasks |= set(getattr(fetcher, "_pending_tasks", ()))
    return {task for task in tasks if task is not None}
