"""Frames with the findings that were dropped, and the watch policy that decided."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_TIME = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.add_column("media", sa.Column("camera_revision", sa.BigInteger()))
    op.add_column("media", sa.Column("policy_digest", sa.Text()))
    op.add_column("detections", sa.Column("rank", sa.Integer()))
    op.create_table(
        "frames",
        sa.Column("media_id", sa.Uuid(), nullable=False),
        sa.Column("index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("captured_at", _TIME, nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("motion_significance", sa.REAL(), nullable=False),
        sa.Column("dropped", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("media_id", "index", name="frames_pkey"),
    )
    op.create_table(
        "detectors",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("labels", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("fast_threshold", sa.Double(), nullable=False),
        sa.Column("reported_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="detectors_pkey"),
    )
    op.create_table(
        "kept_outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("camera_id", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="kept_outbox_pkey"),
    )


def downgrade() -> None:
    op.drop_table("kept_outbox")
    op.drop_table("detectors")
    op.drop_table("frames")
    op.drop_column("detections", "rank")
    op.drop_column("media", "policy_digest")
    op.drop_column("media", "camera_revision")
