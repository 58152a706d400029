"""Judgements that came to nothing, of events that none succeeded of since."""

from collections.abc import Sequence

from lares.store.v1.event_service_pb2 import BatchGetFailuresResponse
from store_svc import messages
from store_svc.database import Database

_LAST = """
    SELECT f.event_id, f.reason, f.detail, f.failed_at, f.given_up_request_id
    FROM events e JOIN assessment_failures f ON f.id = e.failure_id WHERE e.id = ANY($1::uuid[])
"""


async def get_failures(database: Database, event_ids: Sequence[str]) -> BatchGetFailuresResponse:
    """At most one of each event, in no order."""
    async with database.session() as connection:
        rows = await connection.fetch(_LAST, list(event_ids))
    return BatchGetFailuresResponse(failures=map(messages.failure, rows))
