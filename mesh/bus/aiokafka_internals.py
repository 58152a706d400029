"""Everything that Lares does with private parts of aiokafka, as of version 0.14.0.

Check this module when the version changes. What it works around:

- `AIOKafkaConsumer.stop` waits without a limit for a consumer that is joining its group, or whose heartbeat
  does not end (https://github.com/aio-libs/aiokafka/issues/773).
- `AIOKafkaProducer.stop` flushes first, and without a broker it never returns
  (https://github.com/aio-libs/aiokafka/issues/1101, https://github.com/aio-libs/aiokafka/issues/1013).
- A consumer whose positions are set at the moment in which one of its requests ends takes that request for
  one that goes on. It then fetches nothing for `consumer_timeout_ms`, unless something wakes it.
"""

import asyncio
from typing import Any

import structlog
from aiokafka.errors import ProducerClosed

log = structlog.get_logger(__name__)

CONSUMER_STOP_SECONDS = 3.0
CANCEL_SECONDS = 1.0
PRODUCER_STOP_SECONDS = 2.0
# When to wake a consumer after its positions were set. Each may be such a moment again, but hardly all.
WAKE_SECONDS = (0.01, 0.05, 0.2)


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
    await consumer._client.close()


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
