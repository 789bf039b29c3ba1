"""Jobs that are forgotten are shown to nobody while their rows are deleted, piece by piece."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_FORGOTTEN = text("forgotten")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("forgotten", sa.Boolean(), nullable=False, server_default=text("false")))
    op.create_index("ix_jobs_forgotten", "jobs", ["number"], sqlite_where=_FORGOTTEN, postgresql_where=_FORGOTTEN)
