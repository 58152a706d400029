"""API keys by which only one camera's media can be uploaded."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0021"
down_revision: str | None = "0020"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("camera_id", sa.Text))


def downgrade() -> None:
    # An earlier version would take them for keys of all cameras.
    op.execute("UPDATE api_keys SET revoked_at = now() WHERE camera_id IS NOT NULL AND revoked_at IS NULL")
    op.drop_column("api_keys", "camera_id")
