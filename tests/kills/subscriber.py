"""A client that loses its connection at every kill, and must still receive every change exactly once."""

import asyncio

import grpc

from lares.store.v1 import event_service_pb2 as events
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from tests.support.lares import Lares


class Subscriber:
    """Watches the feed by gRPC from its start, and reconnects with the last sequence that it received."""

    def __init__(self, lares: Lares) -> None:
        self._lares = lares
        self.seen: list[int] = []
        self.connections = 0
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            try:
                await self._connect()
            except (grpc.aio.AioRpcError, FileNotFoundError):
                await asyncio.sleep(0.1)

    async def _connect(self) -> None:
        metadata = (("x-api-key", self._lares.key),)
        async with self._lares.grpc_channel() as channel:
            after = self.seen[-1] if self.seen else 0
            request = events.WatchEventsRequest(after=after)
            async for response in events_rpc.EventServiceStub(channel).WatchEvents(
                request, metadata=metadata
            ):
                if not self.seen or self.seen[-1] == after:
                    self.connections += 1
                self.seen.append(response.change.sequence)

    async def caught_up(self, head: int, seconds: float = 90.0) -> None:
        async with asyncio.timeout(seconds):
            while not self.seen or self.seen[-1] < head:
                await asyncio.sleep(0.05)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
