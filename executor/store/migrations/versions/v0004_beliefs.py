"""What was believed of a job before it ran, and what its run taught of engines."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("beliefs", "learnt"):
        op.add_column("jobs", sa.Column(name, sa.Text(), nullable=True))
