"""What people say of assessments."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "assessment_feedback",
        sa.Column("assessment_id", sa.Uuid, primary_key=True),
        sa.Column("event_id", sa.Uuid, nullable=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("severity", sa.SmallInteger, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("given_at", sa.TIMESTAMP(timezone=True), nullable=False),
    )
    newest = [sa.text("given_at DESC"), sa.text("assessment_id DESC")]
    op.create_index("assessment_feedback_newest", "assessment_feedback", newest)


def downgrade() -> None:
    op.drop_table("assessment_feedback")
