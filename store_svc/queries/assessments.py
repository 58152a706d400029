"""The judgements of an event, also those that others took over from."""

from lares.reason.v1.assessment_pb2 import Assessment
from lares.store.v1.event_service_pb2 import ListAssessmentsResponse
from store_svc.database import Database
from store_svc.queries.page_tokens import NUMBER, PageTokens
from store_svc.queries.where import Where


async def list_assessments(
    database: Database, event_id: str, size: int, token: str
) -> ListAssessmentsResponse:
    """One page, the last recorded first; an unknown event has none. Raises Invalid BAD_PAGE_TOKEN."""
    where, pages = Where(), PageTokens("assessments", {"number": NUMBER}, event_id)
    where.add("event_id = {}", event_id)
    if key := pages.after(token):
        where.add("number < {}", *key)
    limit = where.argument(size + 1)
    statement = f"SELECT number, body FROM assessments {where} ORDER BY number DESC LIMIT {limit}"  # noqa: S608
    async with database.session() as connection:
        rows = await connection.fetch(statement, *where.arguments)
    page, tokens, following = pages.cut(rows, size)
    return ListAssessmentsResponse(
        assessments=[Assessment.FromString(row["body"]) for row in page],
        page_tokens=tokens,
        next_page_token=following,
    )
