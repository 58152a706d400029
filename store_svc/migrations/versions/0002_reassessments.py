"""Requests for reassessment, and the number of each assessment of an event."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_NUMBER = """
UPDATE assessments SET number = place.number FROM (
    SELECT id, row_number() OVER (ORDER BY recorded_at, assessed_at, id) AS number FROM assessments
) place
WHERE assessments.id = place.id
"""
_GO_ON = """
SELECT setval(
    pg_get_serial_sequence('assessments', 'number'), (SELECT count(*) + 1 FROM assessments), false
)
"""


def upgrade() -> None:
    op.add_column("events", sa.Column("request_id", sa.Uuid()))
    op.add_column("events", sa.Column("request_model", sa.Text()))
    op.add_column("events", sa.Column("request_prompt", sa.Text()))
    op.add_column("judgement_failures", sa.Column("given_up_request_id", sa.Uuid()))
    op.add_column("assessments", sa.Column("request_id", sa.Uuid()))
    op.add_column("assessments", sa.Column("number", sa.BigInteger()))
    op.execute(_NUMBER)
    op.execute("ALTER TABLE assessments ALTER number SET NOT NULL")
    op.execute("ALTER TABLE assessments ALTER number ADD GENERATED ALWAYS AS IDENTITY")
    op.execute(_GO_ON)
    op.drop_index("assessments_of_event", "assessments")
    op.create_index("assessments_of_event", "assessments", ["event_id", sa.text("number DESC")])
    op.create_index("assessments_recorded", "assessments", ["recorded_at"])


def downgrade() -> None:
    op.drop_index("assessments_recorded", "assessments")
    op.drop_index("assessments_of_event", "assessments")
    op.drop_column("assessments", "number")
    op.drop_column("assessments", "request_id")
    op.create_index("assessments_of_event", "assessments", ["event_id", sa.text("evidence_revision DESC")])
    op.drop_column("judgement_failures", "given_up_request_id")
    for column in ("request_prompt", "request_model", "request_id"):
        op.drop_column("events", column)
