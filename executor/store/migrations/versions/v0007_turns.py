"""Tenants take turns when jobs are claimed: open jobs are found by tenant, and running ones counted."""

from alembic import op
from sqlalchemy import text

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_OPEN = text("status IN ('queued', 'running')")
_RUNNING = text("status = 'running'")


def upgrade() -> None:
    op.drop_index("ix_jobs_open", "jobs")
    turn = ["tenant", "priority", "number"]
    op.create_index("ix_jobs_turn", "jobs", turn, sqlite_where=_OPEN, postgresql_where=_OPEN)
    op.create_index("ix_jobs_running", "jobs", ["tenant"], sqlite_where=_RUNNING, postgresql_where=_RUNNING)
