"""Raw answers in a table of their own, outside the bodies of assessments and feed entries."""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from google.protobuf.message import DecodeError

from lares.reason.v1.assessment_pb2 import Assessment
from lares.store.v1.events_pb2 import EventChanged

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# Rows are read in portions of this size, so that memory stays small.
_ROWS = 500

_ASSESSMENTS = sa.table("assessments", sa.column("id", sa.Uuid()), sa.column("body", sa.LargeBinary()))
_FEED = sa.table(
    "feed",
    sa.column("sequence", sa.BigInteger()),
    sa.column("body", sa.LargeBinary()),
    sa.column("severity", sa.SmallInteger()),
)
_RAW_ANSWERS = sa.table(
    "raw_answers", sa.column("assessment_id", sa.Uuid()), sa.column("body", sa.LargeBinary())
)


def upgrade() -> None:
    op.create_table(
        "raw_answers",
        sa.Column("assessment_id", sa.Uuid(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("assessment_id", name=op.f("raw_answers_pkey")),
    )
    _rewrite(sa.select(_ASSESSMENTS.c.id, _ASSESSMENTS.c.body), _ASSESSMENTS, _ASSESSMENTS.c.id, _move)
    # Only entries of assessed events contain an assessment. Everything else in them is unchanged.
    judged = sa.select(_FEED.c.sequence, _FEED.c.body).where(_FEED.c.severity.is_not(None))
    _rewrite(judged, _FEED, _FEED.c.sequence, _strip_entry)


def downgrade() -> None:
    """Puts raw answers back into the assessments, but not into the feed's entries."""
    kept = sa.select(
        _RAW_ANSWERS.c.assessment_id, _ASSESSMENTS.c.body, _RAW_ANSWERS.c.body.label("raw_answer")
    )
    joined = kept.join(_ASSESSMENTS, _ASSESSMENTS.c.id == _RAW_ANSWERS.c.assessment_id)
    for id, body, raw_answer in op.get_bind().execute(joined).all():
        assessment = Assessment.FromString(body)
        assessment.raw_answer = raw_answer.decode()
        _write(_ASSESSMENTS, _ASSESSMENTS.c.id, [{"key": id, "new_body": assessment.SerializeToString()}])
    op.drop_table("raw_answers")


def _rewrite(
    rows: "sa.Select[Any]",
    table: sa.TableClause,
    key: "sa.ColumnElement[object]",
    rewritten: Callable[[object, bytes], bytes],
) -> None:
    """Rewrites each body, in order of the key. A body that cannot be parsed is left unchanged."""
    bind = op.get_bind()
    page = bind.execute(rows.order_by(key).limit(_ROWS)).all()
    while page:
        changes = []
        for id, body in page:
            try:
                new_body = rewritten(id, body)
            except DecodeError:
                continue
            if new_body != body:
                changes.append({"key": id, "new_body": new_body})
        _write(table, key, changes)
        page = bind.execute(rows.where(key > page[-1][0]).order_by(key).limit(_ROWS)).all()


def _write(table: sa.TableClause, key: "sa.ColumnElement[object]", changes: list[dict[str, object]]) -> None:
    if changes:
        statement = sa.update(table).where(key == sa.bindparam("key")).values(body=sa.bindparam("new_body"))
        op.get_bind().execute(statement, changes)


def _move(id: object, body: bytes) -> bytes:
    assessment = Assessment.FromString(body)
    if assessment.raw_answer:
        raw_answer = {"assessment_id": id, "body": assessment.raw_answer.encode()}
        op.get_bind().execute(sa.insert(_RAW_ANSWERS), [raw_answer])
    _strip(assessment)
    return assessment.SerializeToString()


def _strip_entry(_: object, body: bytes) -> bytes:
    entry = EventChanged.FromString(body)
    if not entry.event.HasField("assessment"):
        return body
    _strip(entry.event.assessment)
    return entry.SerializeToString()


def _strip(assessment: Assessment) -> None:
    assessment.ClearField("raw_answer")
    assessment.DiscardUnknownFields()
