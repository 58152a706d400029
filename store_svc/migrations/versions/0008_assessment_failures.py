"""Renames the table of failed attempts to the name that the code uses."""

from collections.abc import Sequence

from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    _rename("judgement_failures", "assessment_failures")


def downgrade() -> None:
    _rename("assessment_failures", "judgement_failures")


def _rename(old: str, new: str) -> None:
    op.rename_table(old, new)
    op.execute(f"ALTER INDEX {old}_pkey RENAME TO {new}_pkey")
    op.execute(f"ALTER INDEX {old}_of_event RENAME TO {new}_of_event")
