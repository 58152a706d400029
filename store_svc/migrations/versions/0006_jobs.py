"""The job queue, in a table of its own."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from lares.store.internal.v1.job_service_pb2 import ReassessmentRequest

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TIME = sa.TIMESTAMP(timezone=True)

# Waiting events keep their attempts and pauses, and their leases. A worker that holds a lease publishes its
# result before the lease expires; otherwise the job is leased again only after all results up to the expiry
# are read.
_CARRY = """
INSERT INTO jobs (kind, subject_id, camera_id, priority, rank_time, due_at, waiting_since, attempts, failed,
    hastened, input_digest, request_id, lease_id, leased_until)
SELECT 1, id, camera_id, priority, started_at, due_at, coalesce(waiting_since, due_at), attempts, status = 3,
    hastened, evidence_digest, request_id, lease_id, leased_until
FROM events WHERE due_at IS NOT NULL
"""
_ASKED = """
SELECT id, request_id, request_model, request_prompt FROM events
WHERE due_at IS NOT NULL AND request_id IS NOT NULL
"""
_REQUEST = "UPDATE jobs SET request = :request WHERE kind = 1 AND subject_id = :event"


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("camera_id", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("rank_time", TIME, nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column("waiting_since", TIME, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Boolean(), nullable=False),
        sa.Column("hastened", sa.Boolean(), nullable=False),
        sa.Column("input_digest", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Uuid()),
        sa.Column("request", sa.LargeBinary()),
        sa.Column("lease_id", sa.Uuid()),
        sa.Column("leased_until", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("jobs_pkey")),
        sa.UniqueConstraint("kind", "subject_id", name=op.f("jobs_kind_subject_id_key")),
    )
    op.execute(_CARRY)
    connection = op.get_bind()
    for event, id, model, prompt in connection.execute(sa.text(_ASKED)).all():
        request = ReassessmentRequest(request_id=str(id), model=model or "", prompt=prompt or "")
        values = {"event": event, "request": request.SerializeToString()}
        connection.execute(sa.text(_REQUEST), values)
    ranked: list[str | sa.TextClause] = ["kind", sa.text("priority DESC"), sa.text("rank_time DESC")]
    op.create_index("jobs_ranked", "jobs", ranked)
    op.create_index("jobs_failed", "jobs", ranked, postgresql_where=sa.text("failed AND NOT hastened"))
    op.create_index("jobs_leased", "jobs", ["lease_id"], postgresql_where=sa.text("lease_id IS NOT NULL"))
    op.create_index("jobs_asked", "jobs", ["request_id"], postgresql_where=sa.text("request_id IS NOT NULL"))
    for index in ("events_asked", "events_failed", "events_leased", "events_due"):
        op.drop_index(index, "events")
    for column in (
        "due_at",
        "waiting_since",
        "priority",
        "attempts",
        "hastened",
        "lease_id",
        "leased_until",
        "request_id",
        "request_model",
        "request_prompt",
    ):
        op.drop_column("events", column)


_BACK = """
UPDATE events SET due_at = jobs.due_at, waiting_since = jobs.waiting_since, priority = jobs.priority,
    attempts = jobs.attempts, hastened = jobs.hastened, lease_id = jobs.lease_id,
    leased_until = jobs.leased_until, request_id = jobs.request_id
FROM jobs WHERE jobs.kind = 1 AND jobs.subject_id = events.id
"""


def _number(name: str, type: sa.Integer) -> "sa.Column[int]":
    return sa.Column(name, type, nullable=False, server_default=sa.text("0"))


def downgrade() -> None:
    op.add_column("events", sa.Column("due_at", TIME))
    op.add_column("events", sa.Column("waiting_since", TIME))
    op.add_column("events", _number("priority", sa.SmallInteger()))
    op.add_column("events", _number("attempts", sa.Integer()))
    op.add_column(
        "events", sa.Column("hastened", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    )
    op.add_column("events", sa.Column("lease_id", sa.Uuid()))
    op.add_column("events", sa.Column("leased_until", TIME))
    for name, type in (
        ("request_id", sa.Uuid()),
        ("request_model", sa.Text()),
        ("request_prompt", sa.Text()),
    ):
        op.add_column("events", sa.Column(name, type))
    op.execute(_BACK)
    connection = op.get_bind()
    asked = "SELECT subject_id, request FROM jobs WHERE request IS NOT NULL"
    for event, body in connection.execute(sa.text(asked)).all():
        request = ReassessmentRequest.FromString(body)
        connection.execute(
            sa.text("UPDATE events SET request_model = :model, request_prompt = :prompt WHERE id = :event"),
            {"event": event, "model": request.model, "prompt": request.prompt},
        )
    for column in ("priority", "attempts"):
        op.alter_column("events", column, server_default=None)
    order = [sa.text("priority DESC"), sa.text("started_at DESC")]
    op.create_index("events_due", "events", order, postgresql_where=sa.text("due_at IS NOT NULL"))
    op.create_index("events_failed", "events", order, postgresql_where=sa.text("status = 3 AND NOT hastened"))
    op.create_index("events_leased", "events", ["lease_id"], postgresql_where=sa.text("lease_id IS NOT NULL"))
    op.create_index(
        "events_asked", "events", ["request_id"], postgresql_where=sa.text("request_id IS NOT NULL")
    )
    op.drop_table("jobs")
