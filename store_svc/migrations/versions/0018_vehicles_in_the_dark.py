"""What tells whether a vehicle has left, or only cannot be seen."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0018"
down_revision: str | None = "0017"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TIME = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.add_column("vehicles", sa.Column("sure_at", TIME))
    op.execute("UPDATE vehicles SET sure_at = last_at")
    op.alter_column("vehicles", "sure_at", nullable=False)
    op.add_column("vehicles", sa.Column("moved_at", TIME))
    op.add_column(
        "vehicles", sa.Column("accompanied", sa.Integer, nullable=False, server_default=sa.literal(0))
    )


def downgrade() -> None:
    for name in ("accompanied", "moved_at", "sure_at"):
        op.drop_column("vehicles", name)
