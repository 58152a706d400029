"""The vehicles that stand before cameras; detections of them that belong to no event."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TIME = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "vehicles",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("camera_id", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("box", sa.ARRAY(sa.Double), nullable=False),
        sa.Column("first_at", TIME, nullable=False),
        sa.Column("last_at", TIME, nullable=False),
        sa.Column("looked_at", TIME, nullable=False),
        sa.Column("frames", sa.Integer, nullable=False),
        sa.Column("missed", sa.Integer, nullable=False),
        sa.Column("missed_at", TIME),
        sa.Column("event_id", sa.Uuid, nullable=False),
    )
    op.create_index("vehicles_of_camera", "vehicles", ["camera_id"])
    op.add_column("detections", sa.Column("stands", sa.Boolean, nullable=False, server_default=sa.false()))
    op.alter_column("detections", "event_id", nullable=True)


def downgrade() -> None:
    op.execute("DELETE FROM detections WHERE event_id IS NULL")
    op.alter_column("detections", "event_id", nullable=False)
    op.drop_column("detections", "stands")
    op.drop_table("vehicles")
