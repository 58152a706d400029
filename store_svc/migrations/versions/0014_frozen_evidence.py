"""What is frozen of an event's evidence when it opens; the numbers of an event's detections."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "event_evidence",
        sa.Column("event_id", sa.Uuid, primary_key=True),
        sa.Column("scene", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("camera_revision", sa.BigInteger, nullable=False),
    )
    op.add_column("events", sa.Column("frozen_digest", sa.LargeBinary))
    op.add_column("detections", sa.Column("number", sa.Integer))


def downgrade() -> None:
    op.drop_column("detections", "number")
    op.drop_column("events", "frozen_digest")
    op.drop_table("event_evidence")
