"""How urgent a job is, and by when it should be done, in seconds from its acceptance."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("slo", sa.Text(), server_default="standard", nullable=False))
    op.add_column("jobs", sa.Column("deadline_s", sa.Double(), nullable=True))
