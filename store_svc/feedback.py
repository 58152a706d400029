"""What people say of assessments: whether they were right."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, Select, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from lares.reason.v1.assessment_pb2 import SEVERITY_LOW, SEVERITY_MEDIUM, Severity
from lares.store.v1.event_service_pb2 import (
    FEEDBACK_KIND_FALSE_ALARM,
    FEEDBACK_KIND_MISSED,
    FEEDBACK_KIND_RIGHT,
    FEEDBACK_KIND_WRONG_SEVERITY,
    Feedback,
    FeedbackKind,
    ListFeedbackResponse,
)
from mesh.problems import Invalid, NotFound
from store_svc.database import Database
from store_svc.database.statement import (
    Connection,
    FilteredStatement,
    Record,
    Statement,
    equals,
    one_of,
    parameter,
)
from store_svc.database.tables import assessment_feedback, assessments, events
from store_svc.queries.page_tokens import ID, TIME, PageTokens
from store_svc.times import stamp

# Without an assessment's id, the event's current one.
_ASSESSMENT = Statement(
    select(assessments.c.id, assessments.c.severity)
    .join_from(events, assessments, assessments.c.event_id == events.c.id)
    .where(
        equals(events.c.id, "event_id"),
        assessments.c.id
        == func.coalesce(parameter("assessment_id", assessments.c.id), events.c.assessment_id),
    )
)
_VALUES = {column.name: parameter(column.name, column) for column in assessment_feedback.columns}
_WRITE = Statement(
    insert(assessment_feedback)
    .values(_VALUES)
    .on_conflict_do_update(
        index_elements=["assessment_id"],
        set_={name: value for name, value in _VALUES.items() if name != "assessment_id"},
    )
)
_BATCH = Statement(
    select(assessment_feedback).where(one_of(assessment_feedback.c.assessment_id, "assessment_ids"))
)


def _select(conditions: list[ColumnElement[bool]]) -> Select[*tuple[Any, ...]]:
    newest = assessment_feedback.c.given_at.desc(), assessment_feedback.c.assessment_id.desc()
    limit = parameter("limit", Integer)
    return select(assessment_feedback).where(*conditions).order_by(*newest).limit(limit)


_PAGE = FilteredStatement(
    _select,
    {
        "after_id": tuple_(assessment_feedback.c.given_at, assessment_feedback.c.assessment_id)
        < tuple_(
            parameter("after_given_at", assessment_feedback.c.given_at),
            parameter("after_id", assessment_feedback.c.assessment_id),
        )
    },
)


class FeedbackRepository:
    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def set(
        self,
        event_id: UUID,
        assessment_id: UUID | None,
        kind: FeedbackKind.ValueType,
        severity: Severity.ValueType,
        note: str,
    ) -> Feedback:
        """Replaces what was said of the assessment before; without an id, of the event's current one.

        Raises NotFound (ASSESSMENT_NOT_FOUND); Invalid (BAD_FEEDBACK) if kind and severity contradict each
        other or the assessment.
        """

        async def work(connection: Connection) -> Feedback:
            found = await _ASSESSMENT.fetch_one(connection, event_id=event_id, assessment_id=assessment_id)
            if found is None:
                raise NotFound(
                    "the event has no such assessment", "ASSESSMENT_NOT_FOUND", event_id=str(event_id)
                )
            right = right_severity(kind, severity, found["severity"])
            row = {
                "assessment_id": found["id"],
                "event_id": event_id,
                "kind": kind,
                "severity": right,
                "note": note,
                "given_at": self._clock(),
            }
            await _WRITE.execute(connection, **row)
            return _message(row)

        return await self._database.transaction(work)

    async def batch(self, assessment_ids: Sequence[str]) -> list[Feedback]:
        """Of those assessments that have feedback, in no order."""
        async with self._database.connection() as connection:
            return list(map(_message, await _BATCH.fetch(connection, assessment_ids=assessment_ids)))

    async def page(self, size: int, token: str) -> ListFeedbackResponse:
        """The latest first. Raises Invalid (BAD_PAGE_TOKEN)."""
        tokens = PageTokens("feedback", {"given_at": TIME, "assessment_id": ID})
        values: dict[str, Any] = {"limit": size + 1}
        if key := tokens.after(token):
            values["after_given_at"], values["after_id"] = key
        async with self._database.connection() as connection:
            rows = await _PAGE.fetch(connection, **values)
        page, _, next_page_token = tokens.cut(rows, size)
        return ListFeedbackResponse(feedback=map(_message, page), next_page_token=next_page_token)


def right_severity(
    kind: FeedbackKind.ValueType, severity: Severity.ValueType, assessed: Severity.ValueType
) -> Severity.ValueType:
    """The severity that would have been right, 0 being none that was given. Raises Invalid (BAD_FEEDBACK)."""
    if kind == FEEDBACK_KIND_WRONG_SEVERITY:
        if severity in (0, assessed):
            raise Invalid("say which other severity would have been right", "BAD_FEEDBACK")
        return severity
    if kind == FEEDBACK_KIND_MISSED:
        if severity == SEVERITY_LOW:
            raise Invalid("what was missed is more than LOW", "BAD_FEEDBACK")
        if assessed != SEVERITY_LOW:
            raise Invalid("an event that is more than LOW was not missed", "BAD_FEEDBACK")
        return severity or SEVERITY_MEDIUM
    if severity:
        raise Invalid("only what was missed, or has a wrong severity, has another severity", "BAD_FEEDBACK")
    if kind == FEEDBACK_KIND_FALSE_ALARM:
        if assessed == SEVERITY_LOW:
            raise Invalid("an event that is LOW was no alarm", "BAD_FEEDBACK")
        return SEVERITY_LOW
    assert kind == FEEDBACK_KIND_RIGHT
    return assessed


def _message(row: Record | dict[str, Any]) -> Feedback:
    return Feedback(
        event_id=str(row["event_id"]),
        assessment_id=str(row["assessment_id"]),
        kind=row["kind"],
        severity=row["severity"],
        note=row["note"],
        given_at=stamp(row["given_at"]),
    )
