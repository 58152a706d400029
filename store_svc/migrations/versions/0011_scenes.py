"""Zones, lines, masks, size filters and the ground of cameras; the zones of detections and events."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # PostgreSQL keeps a constant default beside the table: no row is rewritten.
    op.add_column("cameras", sa.Column("scene", sa.LargeBinary, nullable=False, server_default=""))
    for table in ("detections", "events"):
        op.add_column(table, sa.Column("zones", sa.ARRAY(sa.Text), nullable=False, server_default="{}"))
    op.create_index(
        "events_zones",
        "events",
        ["zones"],
        postgresql_using="gin",
        postgresql_where=sa.text("zones <> '{}'"),
    )


def downgrade() -> None:
    op.drop_index("events_zones", "events")
    op.drop_column("events", "zones")
    op.drop_column("detections", "zones")
    op.drop_column("cameras", "scene")
