"""The log between the services: typed topics on Kafka. The only importer of aiokafka."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic

from mesh.delivery import Delivery, OffsetStore, Output, Start
from mesh.topics import M, Topic

__all__ = ["Bus", "Delivery", "OffsetStore", "Output", "Start", "Stream", "Tail", "open_bus"]


class Stream(Generic[M]):
    topic_id: str

    def batches(self, max_records: int, linger: float = 0.0) -> AsyncIterator[list[Delivery[M]]]:
        raise NotImplementedError

    def done(self, delivery: Delivery[M], *outputs: Output) -> None:
        raise NotImplementedError

    async def bury(self, delivery: Delivery[M], reason: str, *, attempts: int = 1) -> None:
        raise NotImplementedError

    async def lag(self) -> int:
        raise NotImplementedError

    async def ends(self) -> dict[int, int]:
        raise NotImplementedError

    def positions(self) -> dict[int, int]:
        raise NotImplementedError

    async def seek(self, partition: int, offset: int) -> None:
        raise NotImplementedError


class Tail(Generic[M]):
    def __aiter__(self) -> AsyncIterator[Delivery[M]]:
        raise NotImplementedError

    async def __anext__(self) -> Delivery[M]:
        raise NotImplementedError

    async def caught_up(self) -> None:
        raise NotImplementedError


class Bus:
    async def create_topics(self) -> None:
        raise NotImplementedError

    async def publish(self, topic: Topic[M], *messages: M, headers: Mapping[str, str] | None = None) -> None:
        raise NotImplementedError

    def consume(
        self, topic: Topic[M], group: str, *, offsets: OffsetStore | None = None, buffer: int = 1000
    ) -> AbstractAsyncContextManager[Stream[M]]:
        raise NotImplementedError

    def tail(self, topic: Topic[M], *, start: Start = "end") -> AbstractAsyncContextManager[Tail[M]]:
        raise NotImplementedError

    async def check(self) -> None:
        raise NotImplementedError


@asynccontextmanager
async def open_bus(url: str, *, client_id: str) -> AsyncIterator[Bus]:
    raise NotImplementedError
    yield Bus()


_: Any = None
