"""All assessments of an event, with those that a later one replaced."""

from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, select

from lares.reason.v1.assessment_pb2 import Assessment
from lares.store.v1.event_service_pb2 import ListAssessmentsResponse
from store_svc.database import Database
from store_svc.database.statement import FilteredStatement, equals, parameter
from store_svc.database.tables import assessments
from store_svc.queries.page_tokens import NUMBER, PageTokens


def _select(conditions: list[ColumnElement[bool]]) -> Select[*tuple[Any, ...]]:
    return (
        select(assessments.c.number, assessments.c.body)
        .where(equals(assessments.c.event_id, "event_id"), *conditions)
        .order_by(assessments.c.number.desc())
        .limit(parameter("limit", Integer))
    )


_PAGE = FilteredStatement(_select, {"after": assessments.c.number < parameter("after", assessments.c.number)})


async def list_assessments(
    database: Database, event_id: str, size: int, token: str
) -> ListAssessmentsResponse:
    """One page, the last recorded first; empty for an unknown event. Raises Invalid (BAD_PAGE_TOKEN)."""
    tokens = PageTokens("assessments", {"number": NUMBER}, event_id)
    values: dict[str, Any] = {"event_id": event_id, "limit": size + 1}
    if key := tokens.after(token):
        (values["after"],) = key
    async with database.connection() as connection:
        rows = await _PAGE.fetch(connection, **values)
    page, page_tokens, next_page_token = tokens.cut(rows, size)
    return ListAssessmentsResponse(
        assessments=[Assessment.FromString(row["body"]) for row in page],
        page_tokens=page_tokens,
        next_page_token=next_page_token,
    )
