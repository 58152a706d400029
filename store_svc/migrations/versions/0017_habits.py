"""What is usual before cameras at an hour of the day; what it is counted from."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "habits",
        sa.Column("camera_id", sa.Text, primary_key=True),
        sa.Column("half_hour", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("label", sa.Text, primary_key=True),
        sa.Column("zone_id", sa.Text, primary_key=True),
        sa.Column("polygon_digest", sa.Text, primary_key=True),
        sa.Column("behaviour", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("events", sa.Integer, nullable=False),
    )
    op.create_index("habits_by_day", "habits", ["camera_id", "day"])
    op.add_column("events", sa.Column("stays", JSONB, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("events", "stays")
    op.drop_table("habits")
