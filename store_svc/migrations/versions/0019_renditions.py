"""What is made of media when somebody asks for it, and blobs of what is gone."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0019"
down_revision: str | None = "0018"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    time = sa.TIMESTAMP(timezone=True)
    op.create_table(
        "renditions",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column("camera_id", sa.Text, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("input", sa.LargeBinary, nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("requested_at", time, nullable=False),
        sa.Column("last_used_at", time, nullable=False),
        sa.Column("recorded_at", time),
        sa.Column("sha256", sa.Text),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("blob", sa.LargeBinary),
        sa.Column("failure", sa.LargeBinary),
    )
    op.create_index("renditions_by_use", "renditions", ["last_used_at"])
    op.create_index(
        "renditions_of_blob", "renditions", ["sha256"], postgresql_where=sa.text("sha256 IS NOT NULL")
    )
    op.create_index(
        "renditions_waiting", "renditions", ["requested_by"], postgresql_where=sa.text("state = 1")
    )
    op.create_table(
        "unused_blobs",
        sa.Column("sha256", sa.Text, primary_key=True),
        sa.Column("put_before", time, nullable=False),
    )
    op.add_column("jobs", sa.Column("progress", sa.REAL, nullable=False, server_default="0"))


def downgrade() -> None:
    op.execute("DELETE FROM jobs WHERE kind = 2")
    op.drop_column("jobs", "progress")
    op.drop_table("unused_blobs")
    op.drop_table("renditions")
