"""Bringing a database's tables up to date, and refusing one that is not."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from executor.store.database import Database, database_url, first_line
from executor.store.failures import StoreRefused
from executor.store.tables import SCHEMA_REVISION

_MIGRATIONS = Path(__file__).parent / "migrations"
#: Any number, as long as nobody else takes the same PostgreSQL advisory lock.
_UPGRADE_LOCK = 4_852_417_001


async def upgrade(url: str) -> None:
    """Bring the tables up to date, all or nothing. Raises `StoreRefused`, `StoreUnavailable`."""
    database = Database(database_url(url))
    try:
        await migrate(database)
    finally:
        await database.close()


async def migrate(database: Database) -> None:
    try:
        await database.write(_upgrade)
    except DBAPIError as error:
        reason = first_line(error.orig)
        raise StoreRefused(f"The tables cannot be brought up to date, and were left as they are: {reason}.") from error


async def check(database: Database) -> None:
    """Raises `StoreRefused` when the tables are not those this Halo was made for."""
    found = await database.read(_revision)
    if found != SCHEMA_REVISION:
        has = f"schema {found}" if found else "no tables of Halo"
        raise StoreRefused(f"The database has {has}, this Halo needs schema {SCHEMA_REVISION}: run `halo db upgrade`.")


def _revision(connection: Connection) -> str | None:
    """The migration the database stands at; None when it has none of our tables. `StoreRefused` for a newer one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found is not None and found > SCHEMA_REVISION:
        raise StoreRefused(f"The database has schema {found}, newer than this Halo's {SCHEMA_REVISION}: upgrade Halo.")
    return found


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})"))
    if _revision(connection) == SCHEMA_REVISION:
        return
    # Slow to import, and needed only when something is to be done.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
