"""What models answered, word by word."""

from mesh.problems import NotFound
from store_svc.database import Database

_ONE = """
    SELECT raw.body FROM assessments a LEFT JOIN raw_answers raw ON raw.assessment_id = a.id WHERE a.id = $1
"""


async def get_raw_answer(database: Database, assessment_id: str) -> str:
    """Empty where none was kept, as for rules. Raises NotFound ASSESSMENT_NOT_FOUND."""
    async with database.session() as connection:
        row = await connection.fetchrow(_ONE, assessment_id)
    if row is None:
        raise NotFound("there is no such assessment", "ASSESSMENT_NOT_FOUND", assessment_id=assessment_id)
    body: bytes = row["body"] or b""
    return body.decode()
