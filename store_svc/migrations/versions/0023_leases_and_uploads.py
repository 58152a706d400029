"""Leases of what has a name, and how far uploads have come."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0023"
down_revision: str | None = "0022"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    time = sa.TIMESTAMP(timezone=True)
    op.execute(sa.schema.CreateSequence(sa.Sequence("lease_tokens")))
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("length", sa.Interval, nullable=False),
        sa.Column("expires_at", time, nullable=False),
        sa.UniqueConstraint("token", name="leases_token_key"),
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("caller_id", sa.Text, nullable=False),
        sa.Column("camera_id", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("received_bytes", sa.BigInteger, nullable=False),
        sa.Column("arrived_at", time, nullable=False),
        sa.Column("written_at", time, nullable=False),
        sa.Column("lease_token", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("lease_token", name="uploads_lease_token_key"),
    )
    op.create_index("uploads_of_camera", "uploads", ["camera_id", "caller_id", "sha256"], unique=True)
    op.create_table(
        "upload_parts",
        sa.Column("upload_id", sa.Uuid, primary_key=True),
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("upload_parts")
    op.drop_table("uploads")
    op.drop_table("leases")
    op.execute(sa.schema.DropSequence(sa.Sequence("lease_tokens")))
