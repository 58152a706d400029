"""Reassessments that are asked for while Lares is killed: each until the store says that it has it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import NAMESPACE_OID, uuid5

import grpc

from lares.store.v1 import event_service_pb2 as events
from lares.store.v1.event_pb2 import EVENT_STATUS_ASSESSED
from lares.store.v1.event_service_pb2_grpc import EventServiceStub
from tests.faults.model import STUBBORN
from tests.faults.scenario import Drop
from tests.support.lares import Lares
from tests.support.photos import empty_photo

MISSING = "a-model-that-is-nowhere"
ANSWERED, GIVEN_UP = "answered", "given up"
# What a kill in the middle of a call, or a start that is not over, answers.
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass(frozen=True)
class Ask:
    """For another judgement of the camera's only event. An empty model is the usual one."""

    camera: str
    model: str = ""

    @property
    def request_id(self) -> str:
        """The same in every run."""
        return str(uuid5(NAMESPACE_OID, f"{self.camera} {self.model}"))

    @property
    def end(self) -> str:
        return GIVEN_UP if self.model else ANSWERED


def asks(drops: Sequence[Drop], stubborn: int) -> list[Ask]:
    """One for each camera whose only photo shows something: every second is to be answered, and of the others
    so many meet a model that never answers, the rest one that there is not."""
    seeing = sorted(drop.camera for drop in drops if drop.lonely and drop.sample != empty_photo())
    return [
        Ask(camera, "" if place % 2 == 0 else STUBBORN if place // 2 < stubborn else MISSING)
        for place, camera in enumerate(seeing)
    ]


class Asking:
    """`acknowledged` are the ids of the requests that the store has taken."""

    def __init__(self, lares: Lares, wanted: Sequence[Ask]) -> None:
        self._lares = lares
        self.acknowledged: set[str] = set()
        self._tasks = [asyncio.create_task(self._ask(one)) for one in wanted]

    async def done(self) -> None:
        """Raises what went wrong with one of them."""
        await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self, ask: Ask) -> None:
        while True:
            try:
                if await self._try(ask):
                    self.acknowledged.add(ask.request_id)
                    return
            except FileNotFoundError:
                pass  # there is no key yet
            except grpc.aio.AioRpcError as error:
                if error.code() not in PASSING:
                    raise
            await asyncio.sleep(0.3)

    async def _try(self, ask: Ask) -> bool:
        """Whether the event is there and judged for good, and the store has the request: before, the answer
        to the request might be the first judgement, in one run and not in another."""
        metadata = (("x-api-key", self._lares.key),)
        async with grpc.aio.insecure_channel(self._lares.grpc) as channel:
            stub = EventServiceStub(channel)
            wanted = events.ListEventsRequest(filter=events.EventFilter(camera_ids=[ask.camera]))
            found = (await stub.ListEvents(wanted, metadata=metadata, timeout=5)).events
            if not found or not found[0].closed or found[0].status != EVENT_STATUS_ASSESSED:
                return False
            request = events.ReassessEventRequest(
                event_id=found[0].id, request_id=ask.request_id, model=ask.model
            )
            await stub.ReassessEvent(request, metadata=metadata, timeout=5)
            return True
