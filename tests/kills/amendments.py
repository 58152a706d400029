"""What is said of events that have been assessed or are about to be, while Lares is killed: that the mode is
another, and who somebody is.

Each of it amends evidence, so that it is assessed again. A request that a kill interrupts is repeated, and an
event may be assessed between two of them or not, so two correct runs can have different numbers of revisions
and of assessments of earlier evidence. The last evidence, and its assessment, must be the same.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from lares.reason.v1.evidence_pb2 import Evidence
from lares.store.v1 import event_service_pb2 as events
from lares.store.v1.event_pb2 import Event
from lares.store.v1.event_service_pb2_grpc import EventServiceStub
from lares.store.v1.house_service_pb2 import SetModeRequest
from lares.store.v1.house_service_pb2_grpc import HouseServiceStub
from tests.kills.persistent_calls import persist
from tests.kills.scenario import PORCH_CAMERA, Drop
from tests.support.lares import Lares

# A change of the mode is backdated by this, so that for almost two hours it is within the entry delay of
# photos that were captured before the first run.
ENTRY_DELAY, BACKDATED = timedelta(minutes=60), timedelta(minutes=55)


def backdated() -> Timestamp:
    at = Timestamp()
    at.FromDatetime(datetime.now(UTC) - BACKDATED)
    return at


class Amender:
    """Drops the photos of the porch: for each of `modes` one that opens an event, and one that joins it.

    Between the two the mode is set, and after them somebody says who the person is: `person_id` and nobody
    known, in turn. `modes_before` are those in the evidence of each event before the mode was set, and
    `amended_open` is how many of the events were still open then.
    """

    def __init__(self, lares: Lares, drops: Sequence[Drop], modes: Sequence[str], person_id: str) -> None:
        photos = [drop for drop in drops if drop.camera == PORCH_CAMERA]
        self._visits = list(zip(photos[::2], photos[1::2], modes, strict=True))
        self._lares = lares
        self._person_id = person_id
        self.modes_before: list[str] = []
        self.amended_open = 0
        self.is_at_work = False

    async def amend_all(self, seconds: float) -> None:
        """In at least so many seconds."""
        self.is_at_work = True
        for place, (first, second, mode) in enumerate(self._visits):
            await asyncio.to_thread(first.put, self._lares.cameras)
            await persist(partial(self._set_mode, place, mode))
            await asyncio.sleep(seconds / len(self._visits) / 2)
            await asyncio.to_thread(second.put, self._lares.cameras)
            await persist(partial(self._identify, place))
            await asyncio.sleep(seconds / len(self._visits) / 2)
        self.is_at_work = False

    async def _set_mode(self, place: int, mode: str) -> bool:
        """Returns False while there is no event of this place yet."""
        async with self._lares.grpc_channel() as channel:
            event = await self._event(channel, place)
            if event is None:
                return False
            before = (await self._evidence(channel, event.id)).mode
            await HouseServiceStub(channel).SetMode(
                SetModeRequest(mode=mode, at=backdated()), metadata=self._metadata, timeout=5
            )
        self.modes_before.append(before)
        self.amended_open += not event.closed
        return True

    async def _identify(self, place: int) -> bool:
        """Returns False until the second photo has joined the event: a name is kept with the detections that
        its track had when it was given."""
        async with self._lares.grpc_channel() as channel:
            event = await self._event(channel, place)
            if event is None or event.media_count < 2:
                return False
            evidence = await self._evidence(channel, event.id)
            (track,) = [track for track in evidence.tracks if track.label == "person"]
            person_id = "" if place % 2 else self._person_id
            request = events.IdentifyTrackRequest(event_id=event.id, track_id=track.id, person_id=person_id)
            await EventServiceStub(channel).IdentifyTrack(request, metadata=self._metadata, timeout=5)
        return True

    async def _event(self, channel: grpc.aio.Channel, place: int) -> Event | None:
        """The event of this place, in the order in which they begin; None if there is none yet."""
        request = events.ListEventsRequest(filter=events.EventFilter(camera_ids=[PORCH_CAMERA]))
        found = await EventServiceStub(channel).ListEvents(request, metadata=self._metadata, timeout=5)
        newest_last = sorted(found.events, key=lambda event: event.started_at.ToMicroseconds())
        return newest_last[place] if place < len(newest_last) else None

    async def _evidence(self, channel: grpc.aio.Channel, event_id: str) -> Evidence:
        request = events.GetEvidenceRequest(event_id=event_id)
        answer = await EventServiceStub(channel).GetEvidence(request, metadata=self._metadata, timeout=5)
        return answer.evidence

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("x-api-key", self._lares.key),)
