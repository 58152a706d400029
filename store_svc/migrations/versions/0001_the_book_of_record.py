"""The first schema."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


TIME = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("revoked_at", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("api_keys_pkey")),
        sa.UniqueConstraint("sha256", name=op.f("api_keys_sha256_key")),
    )
    op.create_table(
        "assessments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("evidence_revision", sa.BigInteger(), nullable=False),
        sa.Column("evidence_digest", sa.Text(), nullable=False),
        sa.Column("score", sa.SmallInteger(), nullable=False),
        sa.Column("severity", sa.SmallInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("assessed_at", TIME, nullable=False),
        sa.Column("recorded_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("assessments_pkey")),
    )
    op.create_index("assessments_of_event", "assessments", ["event_id", sa.text("evidence_revision DESC")])
    op.create_table(
        "camera_outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("camera_id", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("camera_outbox_pkey")),
    )
    op.create_table(
        "cameras",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("thresholds", JSONB(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("deleted_at", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("cameras_pkey")),
    )
    op.create_table(
        "detections",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("media_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("camera_id", sa.Text(), nullable=False),
        sa.Column("frame", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("score", sa.REAL(), nullable=False),
        sa.Column("box", sa.ARRAY(sa.REAL()), nullable=False),
        sa.Column("captured_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("detections_pkey")),
    )
    op.create_index(
        "detections_of_event", "detections", ["event_id", "captured_at", sa.text("score DESC"), "id"]
    )
    op.create_index("detections_of_media", "detections", ["media_id"])
    op.create_table(
        "events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("camera_id", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("labels", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("detection_count", sa.Integer(), nullable=False),
        sa.Column("media_count", sa.Integer(), nullable=False),
        sa.Column("last_recorded_at", TIME, nullable=False),
        sa.Column("history", JSONB(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("evidence_digest", sa.Text(), nullable=False),
        sa.Column("evidence_revision", sa.BigInteger(), nullable=False),
        sa.Column("assessment_id", sa.Uuid()),
        sa.Column("assessed_digest", sa.Text()),
        sa.Column("assessed_revision", sa.BigInteger(), nullable=False),
        sa.Column("severity", sa.SmallInteger()),
        sa.Column("due_at", TIME),
        sa.Column("urgent_done", sa.Boolean(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_id", sa.Uuid()),
        sa.Column("leased_until", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("events_pkey")),
    )
    op.create_index(
        "events_due",
        "events",
        [sa.text("priority DESC"), sa.text("started_at DESC")],
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("events_labels", "events", ["labels"], postgresql_using="gin")
    op.create_index("events_leased", "events", ["lease_id"], postgresql_where=sa.text("lease_id IS NOT NULL"))
    op.create_index("events_newest", "events", [sa.text("started_at DESC"), sa.text("id DESC")])
    op.create_index(
        "events_newest_of_camera", "events", ["camera_id", sa.text("started_at DESC"), sa.text("id DESC")]
    )
    op.create_index(
        "events_open", "events", ["partition", "last_recorded_at"], postgresql_where=sa.text("NOT closed")
    )
    op.create_table(
        "feed",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("camera_id", sa.Text(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("severity", sa.SmallInteger()),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("recorded_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("feed_pkey")),
    )
    op.create_table(
        "feed_head",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("feed_head_one_row_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("feed_head_pkey")),
    )
    op.create_table(
        "feed_published",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("feed_published_one_row_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("feed_published_pkey")),
    )
    op.create_table(
        "files",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("files_pkey")),
    )
    op.create_table(
        "judgement_failures",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("evidence_revision", sa.BigInteger(), nullable=False),
        sa.Column("evidence_digest", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("failed_at", TIME, nullable=False),
        sa.Column("recorded_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("judgement_failures_pkey")),
    )
    op.create_index("judgement_failures_of_event", "judgement_failures", ["event_id"])
    op.create_table(
        "media",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("camera_id", sa.Text(), nullable=False),
        sa.Column("camera_name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.SmallInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("captured_at", TIME, nullable=False),
        sa.Column("captured_at_source", sa.SmallInteger(), nullable=False),
        sa.Column("ingested_at", TIME, nullable=False),
        sa.Column("detected_at", TIME, nullable=False),
        sa.Column("detector", sa.Text(), nullable=False),
        sa.Column("detection_count", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text()),
        sa.Column("file_size_bytes", sa.BigInteger()),
        sa.Column("mtime_ns", sa.BigInteger()),
        sa.Column("ctime_ns", sa.BigInteger()),
        sa.Column("inode", sa.BigInteger()),
        sa.Column("recorded_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("media_pkey")),
    )
    op.create_index("media_newest", "media", [sa.text("captured_at DESC"), sa.text("id DESC")])
    op.create_index(
        "media_newest_of_camera", "media", ["camera_id", sa.text("captured_at DESC"), sa.text("id DESC")]
    )
    op.create_table(
        "offsets",
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("topic_id", sa.Text(), nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("consumer", "topic", "partition", name=op.f("offsets_pkey")),
    )
    op.create_table(
        "rejections",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("camera_id", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.SmallInteger(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("rejected_at", TIME, nullable=False),
        sa.Column("media_id", sa.Uuid()),
        sa.Column("recorded_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("rejections_pkey")),
    )
    op.create_index("rejections_newest", "rejections", [sa.text("rejected_at DESC"), sa.text("id DESC")])
    op.create_table(
        "tombstones",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("deleted_at", TIME, nullable=False),
        sa.CheckConstraint("kind IN ('media', 'event')", name=op.f("tombstones_kind_check")),
        sa.PrimaryKeyConstraint("kind", "id", name=op.f("tombstones_pkey")),
    )
    op.execute("INSERT INTO feed_head (id, sequence) VALUES (1, 0)")
    op.execute("INSERT INTO feed_published (id, sequence) VALUES (1, 0)")


def downgrade() -> None:
    for table in (
        "api_keys",
        "assessments",
        "camera_outbox",
        "cameras",
        "detections",
        "events",
        "feed",
        "feed_head",
        "feed_published",
        "files",
        "judgement_failures",
        "media",
        "offsets",
        "rejections",
        "tombstones",
    ):
        op.drop_table(table)
