"""An event in a list, made from its feed entry, equals the event alone, made from its columns."""

from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import UUID

import pytest

from lares.store.v1 import event_service_pb2 as pb
from lares.store.v1.event_pb2 import Event
from store_svc.api.events import EventServicer
from store_svc.camera_repository import CameraRepository
from tests.support.facts import NOON, assessed, detected, failed, opened_by
from tests.support.recorded import Recorded, open_recorded

nothing = cast(Any, None)


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    """Events in every state: pending, assessed, grown since, failed, closed."""
    async with open_recorded(postgres_url) as store:
        await store.detect(detected(1, 0, urgent=True), detected(2, 200), detected(3, 400, labels=["cat"]))
        await store.detect(detected(1, 0, camera="back", labels=["car", "person"]))
        for place, n in enumerate((1, 2), 1):
            row = await store.event(opened_by(n))
            known = row["evidence_revision"], row["evidence_digest"]
            await store.assess(assessed(opened_by(n), str(UUID(int=place)), *known, score=70, severity=3))
        await store.detect(detected(4, 210))
        await store.sweep(after=60)
        row = await store.event(opened_by(3))
        known = row["evidence_revision"], row["evidence_digest"]
        await store.assess(failed(opened_by(3), str(UUID(int=9)), *known))
        yield store


@pytest.mark.parametrize("kept", ["all", "the latest two", "nothing"])
async def test_one_event_is_the_same_in_the_list(store: Recorded, kept: str) -> None:
    await CameraRepository(store.database, store.signals, lambda: NOON).update(
        "front", {"display_name": "Porch"}
    )
    if kept != "all":
        most = 0 if kept == "nothing" else 2
        await store.rows(
            "DELETE FROM feed WHERE sequence <= (SELECT max(sequence) FROM feed) - $1::bigint", most
        )
    listed = await in_list(store)
    assert len(listed) == 4
    assert {event.camera_name for event in listed} == {"Porch", "Back"}
    assert sum(event.HasField("assessment") for event in listed) == 2
    assert len({event.status for event in listed}) == 3
    assert listed == [await alone(store, event.id) for event in listed]


async def in_list(store: Recorded) -> list[Event]:
    return list((await servicer(store).ListEvents(pb.ListEventsRequest(), None)).events)


async def alone(store: Recorded, id: str) -> Event:
    return (await servicer(store).GetEvent(pb.GetEventRequest(event_id=id), None)).event


def servicer(store: Recorded) -> EventServicer:
    return EventServicer(store.database, nothing, nothing, nothing, nothing, nothing, nothing)
