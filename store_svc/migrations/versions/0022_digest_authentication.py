"""What the keys of cameras need for HTTP digest authentication. Keys that were created before have none."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0022"
down_revision: str | None = "0021"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("digest_md5", sa.Text))
    op.add_column("api_keys", sa.Column("digest_sha256", sa.Text))


def downgrade() -> None:
    op.drop_column("api_keys", "digest_sha256")
    op.drop_column("api_keys", "digest_md5")
