"""The failed attempts of each event, and since when it waits."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# When events became due was not recorded: soon after their last detection, or when they were requested.
_WAITING = """
UPDATE events SET waiting_since = CASE
    WHEN request_id IS NULL THEN least(due_at, last_recorded_at) ELSE least(due_at, now())
END
WHERE due_at IS NOT NULL
"""
_LAST_FAILURE = """
UPDATE events SET failure_id = (
    SELECT id FROM judgement_failures
    WHERE event_id = events.id AND given_up_request_id IS NULL ORDER BY recorded_at DESC, id LIMIT 1
)
WHERE status = 3
"""
_FORGET = """
DELETE FROM judgement_failures WHERE given_up_request_id IS NULL
AND NOT EXISTS (SELECT FROM events WHERE failure_id = judgement_failures.id)
"""


def upgrade() -> None:
    op.add_column("events", sa.Column("waiting_since", sa.TIMESTAMP(timezone=True)))
    op.execute(_WAITING)
    op.add_column("events", sa.Column("failure_id", sa.Uuid()))
    op.add_column(
        "events", sa.Column("hastened", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    )
    op.execute(_LAST_FAILURE)
    op.execute(_FORGET)
    op.create_index(
        "events_failed",
        "events",
        [sa.text("priority DESC"), sa.text("started_at DESC")],
        postgresql_where=sa.text("status = 3 AND NOT hastened"),
    )
    op.create_index(
        "events_asked", "events", ["request_id"], postgresql_where=sa.text("request_id IS NOT NULL")
    )


def downgrade() -> None:
    op.drop_index("events_asked", "events")
    op.drop_index("events_failed", "events")
    op.drop_column("events", "hastened")
    op.drop_column("events", "failure_id")
    op.drop_column("events", "waiting_since")
