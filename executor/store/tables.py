"""The tables, and the two things all of them share: how text is stored, and whose clock counts.

Times are seconds since 1970 by the database's clock. JSON is stored as text. `programs.status` is `pending` until the
program has ended. The counters of a job are kept by the transactions that write its programs and nodes, so that a
poll never counts rows.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from executor.store.writes import MADE, RECALLED, SAVED

#: The newest migration in `migrations/versions`.
SCHEMA_REVISION = "0010"

#: Where the nodes keep each part of their work; `tools` are the names a turn asks for.
WORK_COLUMNS = {name: "tool_runs" if name == "tools" else name for name in MADE}

#: When a node was ready, begun and ended, by the clock of the process that ran it.
TIMES = ("ready_at", "begun_at", "ended_at")

_ESCAPED = "\x01"


def stored_text(text: str) -> str:
    """The text as every database can hold it: one with a NUL or a lone surrogate is escaped, any other is itself."""
    odd = "\x00" in text or text.startswith(_ESCAPED) or not (text.isascii() or _is_unicode(text))
    return _ESCAPED + text.encode("unicode_escape").decode("ascii") if odd else text


def plain_text(stored: str) -> str:
    """The text that `stored_text` was given."""
    return stored[1:].encode("ascii").decode("unicode_escape") if stored.startswith(_ESCAPED) else stored


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class StoredText(TypeDecorator[str]):
    """A text column that takes any Python text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else stored_text(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:
        return None if value is None else plain_text(value)


SQLITE_NOW = "((julianday('now') - 2440587.5) * 86400.0)"
POSTGRES_NOW = "extract(epoch FROM clock_timestamp())::double precision"


class database_now(FunctionElement[float]):  # noqa: N801 - it is an SQL function
    """The database's clock, in seconds since 1970: two processes agree about a lease though their own clocks do not."""

    type = Double()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _sqlite_now(element: Any, compiler: Any, **options: Any) -> str:
    return SQLITE_NOW


@compiles(database_now, "postgresql")
def _postgres_now(element: Any, compiler: Any, **options: Any) -> str:
    return POSTGRES_NOW


def _grows() -> Any:
    return BigInteger().with_variant(Integer(), "sqlite")


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

plans = Table(
    "plans",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("text", StoredText, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("number", _grows(), primary_key=True),
    Column("id", StoredText, nullable=False, unique=True),
    Column("tenant", StoredText, nullable=False),
    Column("workflow", StoredText, nullable=False),
    Column("plan_hash", Text, ForeignKey("plans.hash"), nullable=False),
    Column("status", Text, nullable=False, server_default="queued"),
    Column("priority", Integer, nullable=False),
    Column("row_count", Integer, nullable=False),
    Column("metadata", StoredText, nullable=False),
    Column("idempotency_key", StoredText),
    Column("request_hash", StoredText, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("cancel_requested", Boolean, nullable=False, server_default=text("false")),
    Column("owner", StoredText),
    Column("lease_until", Double, nullable=False, server_default="0"),
    Column("attempt", Integer, nullable=False, server_default="0"),
    _count("succeeded"),
    _count("failed"),
    _count("cancelled"),
    *(_count(name) for name in (*MADE, *SAVED, *RECALLED)),
    Column("cache", Boolean, nullable=False, server_default=text("true")),
    Column("beliefs", StoredText),
    Column("learnt", StoredText),
    Column("slo", Text, nullable=False, server_default="standard"),
    Column("deadline_s", Double),
    Column("forgotten", Boolean, nullable=False, server_default=text("false")),
    UniqueConstraint("tenant", "idempotency_key"),
    CheckConstraint("status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="status"),
    CheckConstraint("succeeded + failed + cancelled <= row_count", name="counts"),
    sqlite_autoincrement=True,
)
Index("ix_jobs_tenant_number", jobs.c.tenant, jobs.c.number)

# Written out in queries too: a database uses a partial index only where it sees the same words.
OPEN = text("status IN ('queued', 'running')")
RUNNING = text("status = 'running'")
STARTED = text("started_at IS NOT NULL")
FORGOTTEN = text("forgotten")
SHOWN = text("NOT jobs.forgotten")
Index("ix_jobs_turn", jobs.c.tenant, jobs.c.priority, jobs.c.number, sqlite_where=OPEN, postgresql_where=OPEN)
Index("ix_jobs_running", jobs.c.tenant, sqlite_where=RUNNING, postgresql_where=RUNNING)
Index("ix_jobs_started", jobs.c.tenant, jobs.c.started_at, sqlite_where=STARTED, postgresql_where=STARTED)
Index("ix_jobs_forgotten", jobs.c.number, sqlite_where=FORGOTTEN, postgresql_where=FORGOTTEN)
Index("ix_jobs_owner", jobs.c.owner, sqlite_where=RUNNING, postgresql_where=RUNNING)

programs = Table(
    "programs",
    metadata,
    Column("job_id", StoredText, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("row_index", Integer, primary_key=True),
    Column("input", StoredText, nullable=False),
    Column("status", Text, nullable=False, server_default="pending"),
    Column("result", StoredText),
    Column("failure", Text),
    CheckConstraint("status IN ('pending', 'succeeded', 'failed', 'cancelled')", name="status"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("job_id", StoredText, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("row_index", Integer, primary_key=True),
    Column("path", StoredText, primary_key=True),
    Column("status", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("output", StoredText),
    Column("tools", Text),
    Column("shared_job", StoredText),
    Column("shared_row", Integer),
    Column("shared_path", StoredText),
    Column("calls", Integer, nullable=False),
    Column("tool_runs", Integer, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("engine", StoredText),
    *(Column(name, Double) for name in TIMES),
    CheckConstraint("status IN ('begun', 'done')", name="status"),
)

events = Table(
    "events",
    metadata,
    Column("seq", _grows(), primary_key=True),
    Column("job_id", StoredText, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("row_index", Integer),
    Column("kind", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("detail", Text),
    sqlite_autoincrement=True,
)
Index("ix_events_job_id_seq", events.c.job_id, events.c.seq)

decisions = Table(
    "decisions",
    metadata,
    Column("job_id", StoredText, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("row_index", Integer, nullable=False),
    Column("path", StoredText, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", Double, nullable=False),
    Column("detail", StoredText, nullable=False),
)

drained_engines = Table(
    "drained_engines",
    metadata,
    Column("engine", StoredText, primary_key=True),
    Column("operator", StoredText, nullable=False),
    Column("at", Double, nullable=False),
)

cached_results = Table(
    "cached_results",
    metadata,
    Column("number", _grows(), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("tenant", StoredText, nullable=False),
    Column("made_by", StoredText, nullable=False),
    Column("output", StoredText, nullable=False),
    Column("calls", Integer, nullable=False),
    Column("tool_runs", Integer, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("used_at", Double, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_cached_results_used_at", cached_results.c.used_at)
