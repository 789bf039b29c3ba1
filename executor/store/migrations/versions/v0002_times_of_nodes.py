"""When each call and each run of a tool was ready, begun and ended."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("ready_at", "begun_at", "ended_at"):
        op.add_column("nodes", sa.Column(name, sa.Double()))
