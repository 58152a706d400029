"""The text that a language model returned, before it was read."""

from sqlalchemy import select

from mesh.problems import NotFound
from store_svc.database import Database
from store_svc.database.statement import Statement, equals
from store_svc.database.tables import assessments, raw_answers

_ONE = Statement(
    select(raw_answers.c.body)
    .outerjoin_from(assessments, raw_answers, raw_answers.c.assessment_id == assessments.c.id)
    .where(equals(assessments.c.id, "assessment_id"))
)


async def get_raw_answer(database: Database, assessment_id: str) -> str:
    """Empty if the assessment has none, as those of rules. Raises NotFound (ASSESSMENT_NOT_FOUND)."""
    async with database.connection() as connection:
        row = await _ONE.fetch_one(connection, assessment_id=assessment_id)
    if row is None:
        raise NotFound("there is no such assessment", "ASSESSMENT_NOT_FOUND", assessment_id=assessment_id)
    body: bytes = row["body"] or b""
    return body.decode()
