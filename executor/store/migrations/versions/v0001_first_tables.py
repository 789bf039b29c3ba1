"""The first tables: plans, jobs, programs, nodes, events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_OPEN = sa.text("status IN ('queued', 'running')")
_RUNNING = sa.text("status = 'running'")


def upgrade() -> None:
    _plans()
    _jobs()
    _programs()
    _nodes()
    _events()


def _plans() -> None:
    op.create_table(
        "plans",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_plans"),
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("number", _grows(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("workflow", sa.Text(), nullable=False),
        sa.Column("plan_hash", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text()),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double()),
        sa.Column("ended_at", sa.Double()),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("owner", sa.Text()),
        sa.Column("lease_until", sa.Double(), server_default="0", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        *(_count(name) for name in ("succeeded", "failed", "cancelled")),
        *(_count(name) for name in ("calls", "tools", "prompt_tokens", "output_tokens", "cached_tokens")),
        *(_count(name) for name in ("saved_calls", "saved_tools", "saved_prompt_tokens", "saved_output_tokens")),
        sa.PrimaryKeyConstraint("number", name="pk_jobs"),
        sa.ForeignKeyConstraint(["plan_hash"], ["plans.hash"], name="fk_jobs_plan_hash"),
        sa.UniqueConstraint("tenant", "idempotency_key", name="uq_jobs_tenant_idempotency_key"),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_jobs_status")
        ),
        sa.CheckConstraint("succeeded + failed + cancelled <= row_count", name=op.f("ck_jobs_counts")),
        sa.UniqueConstraint("id", name="uq_jobs_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_tenant_number", "jobs", ["tenant", "number"])
    op.create_index("ix_jobs_open", "jobs", ["priority", "number"], sqlite_where=_OPEN, postgresql_where=_OPEN)
    op.create_index("ix_jobs_owner", "jobs", ["owner"], sqlite_where=_RUNNING, postgresql_where=_RUNNING)


def _programs() -> None:
    op.create_table(
        "programs",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("row_index", sa.Integer(), nullable=False),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("result", sa.Text()),
        sa.Column("failure", sa.Text()),
        sa.PrimaryKeyConstraint("job_id", "row_index", name="pk_programs"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_programs_job_id", ondelete="CASCADE"),
        sa.CheckConstraint(
            "status IN ('pending', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_programs_status")
        ),
    )


def _nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("row_index", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("output", sa.Text()),
        sa.Column("tools", sa.Text()),
        sa.Column("shared_job", sa.Text()),
        sa.Column("shared_row", sa.Integer()),
        sa.Column("shared_path", sa.Text()),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("tool_runs", sa.Integer(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("engine", sa.Text()),
        sa.PrimaryKeyConstraint("job_id", "row_index", "path", name="pk_nodes"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_nodes_job_id", ondelete="CASCADE"),
        sa.CheckConstraint("status IN ('begun', 'done')", name=op.f("ck_nodes_status")),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("seq", _grows(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("row_index", sa.Integer()),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("detail", sa.Text()),
        sa.PrimaryKeyConstraint("seq", name="pk_events"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_events_job_id", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_job_id_seq", "events", ["job_id", "seq"])


def _grows() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)
