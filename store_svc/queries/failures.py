"""The last failed attempt of events that were not assessed since."""

from collections.abc import Sequence

from sqlalchemy import select

from lares.store.v1.event_service_pb2 import BatchGetFailuresResponse
from store_svc.database import Database
from store_svc.database.statement import Statement, one_of
from store_svc.database.tables import assessment_failures, events
from store_svc.messages import failure_message

_LAST = Statement(
    select(
        assessment_failures.c.event_id,
        assessment_failures.c.reason,
        assessment_failures.c.detail,
        assessment_failures.c.failed_at,
        assessment_failures.c.given_up_request_id,
    )
    .join_from(events, assessment_failures, assessment_failures.c.id == events.c.failure_id)
    .where(one_of(events.c.id, "event_ids"))
)


async def get_failures(database: Database, event_ids: Sequence[str]) -> BatchGetFailuresResponse:
    """At most one for each event, in no order."""
    async with database.connection() as connection:
        rows = await _LAST.fetch(connection, event_ids=event_ids)
    return BatchGetFailuresResponse(failures=map(failure_message, rows))
