"""Where jobs run one at a time, tenants take turns by when each was last given one."""

from alembic import op
from sqlalchemy import text

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_STARTED = text("started_at IS NOT NULL")


def upgrade() -> None:
    begun = ["tenant", "started_at"]
    op.create_index("ix_jobs_started", "jobs", begun, sqlite_where=_STARTED, postgresql_where=_STARTED)
