"""Reads and amends what was frozen of events."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import select, update

from store_svc.database.statement import Connection, Statement, equals, one_of, parameter
from store_svc.database.tables import event_evidence, events
from store_svc.domain.frozen_evidence import FrozenEvidence
from store_svc.queries.evidence import NAMES, names_of

_LOAD = Statement(
    select(event_evidence.c.event_id, event_evidence.c.scene, event_evidence.c.body, NAMES)
    .join_from(events, event_evidence, event_evidence.c.event_id == events.c.id)
    .where(one_of(events.c.id, "event_ids"))
)
_UPDATE = Statement(
    update(event_evidence)
    .values(body=parameter("body", event_evidence.c.body))
    .where(equals(event_evidence.c.event_id, "id"))
)


async def load_frozen(connection: Connection, event_ids: Sequence[UUID]) -> dict[UUID, FrozenEvidence]:
    """By event; events that an earlier version has opened are left out."""
    if not event_ids:
        return {}
    rows = await _LOAD.fetch(connection, event_ids=event_ids)
    return {
        row["event_id"]: FrozenEvidence(row["scene"], row["body"], names_of(row["names"])) for row in rows
    }


async def update_bodies(connection: Connection, bodies: Mapping[UUID, bytes]) -> None:
    if bodies:
        await _UPDATE.execute_many(connection, [{"id": id, "body": body} for id, body in bodies.items()])
