"""What only clips have, the frame of a media that shows most, and the most that a frame of an event shows."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0020"
down_revision: str | None = "0019"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("media", sa.Column("clip", sa.LargeBinary))
    op.add_column("media", sa.Column("poster_frame", sa.Integer, nullable=False, server_default="0"))
    op.add_column("events", sa.Column("most_at_once", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("events", "most_at_once")
    op.drop_column("media", "poster_frame")
    op.drop_column("media", "clip")
