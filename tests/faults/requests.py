"""Reassessments requested while Lares is killed: each is sent until the store acknowledges it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import NAMESPACE_OID, uuid5

import grpc

from lares.store.v1 import event_service_pb2 as events
from lares.store.v1.event_pb2 import EVENT_STATUS_ASSESSED
from lares.store.v1.event_service_pb2_grpc import EventServiceStub
from tests.faults.model import SILENT
from tests.faults.scenario import Drop
from tests.support.lares import Lares
from tests.support.photos import empty_photo

UNKNOWN = "no-such-model"
ANSWERED, GIVEN_UP = "answered", "given up"
# The status of a call that a kill interrupts, or that comes before Lares is ready.
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass(frozen=True)
class Request:
    """A request to reassess the only event of a camera. An empty model means the configured one."""

    camera: str
    model: str = ""

    @property
    def request_id(self) -> str:
        """The same in every run."""
        return str(uuid5(NAMESPACE_OID, f"{self.camera} {self.model}"))

    @property
    def end(self) -> str:
        return GIVEN_UP if self.model else ANSWERED


def make_requests(drops: Sequence[Drop], silent: int) -> list[Request]:
    """One for each camera whose only photo shows something. Every second one is to be answered. Of the
    others, `silent` ask for a model that never gives a usable answer, and the rest for one that does not
    exist."""
    seeing = sorted(drop.camera for drop in drops if drop.lonely and drop.sample != empty_photo())
    return [
        Request(camera, "" if place % 2 == 0 else SILENT if place // 2 < silent else UNKNOWN)
        for place, camera in enumerate(seeing)
    ]


class Requester:
    """Sends all requests at once. `acknowledged` holds the ids of those that the store has taken."""

    def __init__(self, lares: Lares, wanted: Sequence[Request]) -> None:
        self._lares = lares
        self.acknowledged: set[str] = set()
        self._tasks = [asyncio.create_task(self._send(one)) for one in wanted]

    async def done(self) -> None:
        """Raises what went wrong with one of them."""
        await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self, wanted: Request) -> None:
        while True:
            try:
                if await self._try(wanted):
                    self.acknowledged.add(wanted.request_id)
                    return
            except FileNotFoundError:
                pass  # there is no key yet
            except grpc.aio.AioRpcError as error:
                if error.code() not in PASSING:
                    raise
            await asyncio.sleep(0.3)

    async def _try(self, wanted: Request) -> bool:
        """Whether the store has taken the request. It is sent once the event is closed and assessed: earlier,
        its answer could be the event's first assessment, in one run and not in the other."""
        metadata = (("x-api-key", self._lares.key),)
        async with grpc.aio.insecure_channel(self._lares.grpc) as channel:
            stub = EventServiceStub(channel)
            of_camera = events.ListEventsRequest(filter=events.EventFilter(camera_ids=[wanted.camera]))
            found = (await stub.ListEvents(of_camera, metadata=metadata, timeout=5)).events
            if not found or not found[0].closed or found[0].status != EVENT_STATUS_ASSESSED:
                return False
            request = events.ReassessEventRequest(
                event_id=found[0].id, request_id=wanted.request_id, model=wanted.model
            )
            await stub.ReassessEvent(request, metadata=metadata, timeout=5)
            return True
