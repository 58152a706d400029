"""Who the tracks of events are, as somebody has said."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0016"
down_revision: str | None = "0015"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "track_identities",
        sa.Column("event_id", sa.Uuid, primary_key=True),
        sa.Column("track_id", sa.Uuid, primary_key=True),
        sa.Column("detection_ids", sa.ARRAY(sa.Uuid), nullable=False),
        sa.Column("person", sa.LargeBinary, nullable=False),
        sa.Column("identified_at", sa.TIMESTAMP(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("track_identities")
