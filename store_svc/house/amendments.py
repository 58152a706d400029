"""Amends the evidence of events that began shortly before somebody said that the mode or presence is another.

Somebody who comes home is seen before they can switch the mode. The transaction that changes the mode or the
presence therefore also amends the evidence of the events that began within the entry delay before it.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select

from store_svc.commit_signals import CommitSignals
from store_svc.database.statement import Connection, Record, Statement, parameter
from store_svc.database.tables import cameras, detections, event_evidence, events
from store_svc.domain.frozen_evidence import FrozenEvidence, amended_body
from store_svc.domain.house import HouseContext
from store_svc.domain.queued_event import QueuedEvent
from store_svc.event_repository import load_detection_ids, load_queued, write_events, write_queue
from store_svc.frozen_bodies import update_bodies
from store_svc.house.contexts import HouseContexts
from store_svc.queries.evidence import NAMES, names_of

_LOCK_CAMERAS = Statement(
    select(cameras.c.id, cameras.c.display_name).order_by(cameras.c.id).with_for_update()
)
# An event began when the frame was captured that opened it: a late frame may have been captured earlier. One
# of vehicles that have left has no detections, and nothing joins it.
_begun_at = func.coalesce(detections.c.captured_at, events.c.started_at)
_BEGUN = Statement(
    select(
        events.c.id,
        events.c.camera_id,
        _begun_at.label("begun_at"),
        event_evidence.c.scene,
        event_evidence.c.body,
        NAMES,
    )
    .select_from(
        events.join(event_evidence, event_evidence.c.event_id == events.c.id).outerjoin(
            detections, (detections.c.event_id == events.c.id) & (detections.c.number == 0)
        )
    )
    .where(
        events.c.started_at >= parameter("started_after", events.c.started_at),
        _begun_at >= parameter("begun_after", detections.c.captured_at),
    )
    .order_by(events.c.id)
)


class EvidenceAmendments:
    def __init__(
        self,
        houses: HouseContexts,
        entry_delay: timedelta,
        span: timedelta,
        signals: CommitSignals,
        clock: Callable[[], datetime],
    ) -> None:
        """`span` is the longest time between the first and the last frame of an event."""
        self._houses = houses
        self._entry_delay = entry_delay
        self._span = span
        self._signals = signals
        self._clock = clock

    async def amend(self, connection: Connection, since: datetime) -> None:
        """Must come last in a transaction that has changed the mode or presence from `since` on.

        Locks all cameras first: what is recorded at the same time either was committed before, and is amended
        here, or is recorded after the commit, and knows the change.
        """
        names = {row["id"]: row["display_name"] for row in await _LOCK_CAMERAS.fetch(connection)}
        earliest = since - self._entry_delay
        begun = await _BEGUN.fetch(connection, begun_after=earliest, started_after=earliest - self._span)
        houses = await self._houses.houses_at(
            connection, [(row["camera_id"], row["begun_at"]) for row in begun]
        )
        amended = {
            row["id"]: frozen
            for row, house in zip(begun, houses, strict=True)
            if (frozen := _amended(row, house)) is not None
        }
        if amended:
            await self._write(connection, amended, names)

    def notify(self) -> None:
        """To be called after the commit."""
        self._signals.notify(feed=True, due=True)

    async def _write(
        self, connection: Connection, amended: Mapping[UUID, FrozenEvidence], names: Mapping[str, str]
    ) -> None:
        now = self._clock()
        queued = await load_queued(connection, amended.keys())
        known = await load_detection_ids(connection, amended.keys())
        changed: list[QueuedEvent] = []
        for id, frozen in amended.items():
            queued[id].amend(frozen.digest, known.get(id, ()), now)
            changed.append(queued[id])
        await update_bodies(connection, {id: one.body for id, one in amended.items()})
        await write_queue(connection, changed)
        await write_events(connection, [], [each.event for each in changed], names, now)


def _amended(row: Record, house: HouseContext) -> FrozenEvidence | None:
    """None if nothing is different."""
    body = amended_body(row["body"], house)
    return None if body == row["body"] else FrozenEvidence(row["scene"], body, names_of(row["names"]))
