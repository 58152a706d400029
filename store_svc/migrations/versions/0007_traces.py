"""The trace that the next assessment of an event belongs to."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    for table in ("events", "jobs"):
        op.add_column(table, sa.Column("traceparent", sa.Text()))


def downgrade() -> None:
    for table in ("events", "jobs"):
        op.drop_column(table, "traceparent")
