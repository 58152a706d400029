"""Ends an aiokafka consumer for good."""

import asyncio
from typing import Any

import structlog

log = structlog.get_logger(__name__)

STOP_SECONDS = 3.0
FORCE_SECONDS = 1.0


async def stop_consumer(consumer: Any) -> None:
    """Takes 3 s, or 4. A consumer that is just joining its group ends only when that has ended, and then goes
    on sending heartbeats: it would keep its partitions, and read nothing. So what is left of it is put
    down."""
    stopping = asyncio.ensure_future(consumer.stop())
    await asyncio.wait([stopping], timeout=STOP_SECONDS)
    if stopping.done() and not stopping.cancelled() and stopping.exception() is None:
        return
    log.info("consumer put down")
    tasks = {stopping, *_tasks(consumer)}
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=FORCE_SECONDS)
    await consumer._client.close()


def _tasks(consumer: Any) -> set["asyncio.Future[Any]"]:
    coordinator, fetcher = consumer._coordinator, consumer._fetcher
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")
    tasks = {getattr(coordinator, name, None) for name in names} | {getattr(fetcher, "_fetch_task", None)}
    tasks |= set(getattr(fetcher, "_pending_tasks", ()))
    return {task for task in tasks if task is not None}
