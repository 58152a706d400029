"""The mode, people, presence, expected visits and notes of the house, and permissions of API keys."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TIME = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("permissions", sa.ARRAY(sa.SmallInteger)))
    op.create_table(
        "house",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("told", sa.Boolean, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("site_notes", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("house_one_row_check")),
    )
    op.execute("INSERT INTO house (id, told, revision, site_notes) VALUES (1, false, 0, '')")
    op.create_table(
        "mode_changes",
        sa.Column("number", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("at", TIME, nullable=False),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("source", sa.SmallInteger, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
    )
    op.create_index("mode_changes_newest", "mode_changes", [sa.text("at DESC"), sa.text("number DESC")])
    op.create_table(
        "mode_schedules",
        sa.Column("number", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("since", TIME, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
    )
    op.create_index(
        "mode_schedules_newest", "mode_schedules", [sa.text("since DESC"), sa.text("number DESC")]
    )
    op.create_table(
        "people",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("relation", sa.SmallInteger, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
    )
    op.create_table(
        "presence_reports",
        sa.Column("number", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("person_id", sa.Uuid, nullable=False),
        sa.Column("present", sa.Boolean, nullable=False),
        sa.Column("reported_at", TIME, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("reported_by", sa.Text, nullable=False),
    )
    op.create_index(
        "presence_reports_newest", "presence_reports", [sa.text("reported_at DESC"), sa.text("number DESC")]
    )
    op.create_table(
        "expected_visits",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    for table in ("expected_visits", "presence_reports", "people", "mode_schedules", "mode_changes", "house"):
        op.drop_table(table)
    op.drop_column("api_keys", "permissions")
