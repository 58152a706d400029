"""The capture time that a camera claims, if it was not believed."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("media", sa.Column("claimed_captured_at", sa.TIMESTAMP(timezone=True)))


def downgrade() -> None:
    op.drop_column("media", "claimed_captured_at")
