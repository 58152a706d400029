"""Media by the path of their file, which tells that a file was taken after it had been rejected."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_index(
        "media_path", "media", ["path"], postgresql_using="hash", postgresql_where=sa.text("path IS NOT NULL")
    )


def downgrade() -> None:
    op.drop_index("media_path", "media")
