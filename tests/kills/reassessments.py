"""Requests for reassessment while Lares is killed: each is sent until the store acknowledges it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import NAMESPACE_OID, uuid5

from lares.store.v1 import event_service_pb2 as events
from lares.store.v1.event_pb2 import EVENT_STATUS_ASSESSED
from lares.store.v1.event_service_pb2_grpc import EventServiceStub
from tests.kills.flaky_model import SILENT
from tests.kills.persistent_calls import persist
from tests.kills.scenario import Drop
from tests.support.lares import Lares
from tests.support.photos import empty_photo

UNKNOWN = "no-such-model"
ANSWERED, GIVEN_UP = "answered", "given up"


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
    """Returns a request for each camera whose only photo has detections.

    Every second request will be answered. Of the others, `silent` name a model that never returns a usable
    answer, and the rest a model that does not exist.
    """
    with_events = sorted(drop.camera for drop in drops if drop.is_single and drop.sample != empty_photo())
    return [
        Request(camera, "" if place % 2 == 0 else SILENT if place // 2 < silent else UNKNOWN)
        for place, camera in enumerate(with_events)
    ]


class Requester:
    """Sends all requests concurrently. `acknowledged` has the ids of those that the store has accepted."""

    def __init__(self, lares: Lares, requests: Sequence[Request]) -> None:
        self._lares = lares
        self.acknowledged: set[str] = set()
        self._tasks = [asyncio.create_task(self._send(request)) for request in requests]

    async def done(self) -> None:
        """Waits until all requests are acknowledged. Raises the error of a request that failed."""
        await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self, request: Request) -> None:
        await persist(lambda: self._try(request))
        self.acknowledged.add(request.request_id)

    async def _try(self, request: Request) -> bool:
        """Returns whether the store has accepted the request.

        It is sent once the event is closed and assessed. Otherwise its answer could be the event's first
        assessment in one of the runs.
        """
        metadata = (("x-api-key", self._lares.key),)
        async with self._lares.grpc_channel() as channel:
            stub = EventServiceStub(channel)
            of_camera = events.ListEventsRequest(filter=events.EventFilter(camera_ids=[request.camera]))
            found = (await stub.ListEvents(of_camera, metadata=metadata, timeout=5)).events
            if not found or not found[0].closed or found[0].status != EVENT_STATUS_ASSESSED:
                return False
            message = events.ReassessEventRequest(
                event_id=found[0].id, request_id=request.request_id, model=request.model
            )
            await stub.ReassessEvent(message, metadata=metadata, timeout=5)
            return True
