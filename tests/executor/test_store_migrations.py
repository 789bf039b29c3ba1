"""The migrations lead to the tables that the code speaks of, whatever stands before."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.ext.asyncio import create_async_engine

from executor.store import migrations
from executor.store.database import Database, database_url
from executor.store.failures import StoreRefused
from executor.store.sql import open_store, upgrade
from executor.store.tables import SCHEMA_REVISION, metadata
from tests.executor.store_bodies import administer, empty_database

#: Who stalls keeps others waiting for as long.
PATIENT_S = 300.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "halo.db"


@pytest.fixture
async def postgres() -> AsyncIterator[str]:
    async with empty_database() as url:
        yield url


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


def statements(file: Path) -> dict[str, str]:
    """How SQLite itself writes down each table and index, checks and all."""
    with create_engine(f"sqlite:///{file}").connect() as connection:
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")).all()
        connection.engine.dispose()
    return {name: " ".join(sorted(sql.replace(",", " ").split())) for name, sql in rows if name != "alembic_version"}


def test_the_code_knows_the_newest_migration() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__path__[0])))

    assert scripts.get_heads() == [SCHEMA_REVISION]


async def test_on_sqlite_the_migrations_make_the_tables_to_the_letter(file: Path, tmp_path: Path) -> None:
    await upgrade(f"sqlite:///{file}")
    made_at_once = tmp_path / "other.db"
    engine = create_engine(f"sqlite:///{made_at_once}")
    metadata.create_all(engine)
    engine.dispose()

    assert statements(file) == statements(made_at_once)
    migrated = create_engine(f"sqlite:///{file}")
    with migrated.connect() as connection:
        assert differences(connection) == []
    migrated.dispose()


@pytest.mark.postgres
async def test_on_postgres_the_migrations_make_the_tables(postgres: str) -> None:
    await upgrade(postgres)

    engine = create_async_engine(postgres.replace("postgresql", "postgresql+asyncpg"))
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_a_sqlite_file_is_brought_up_to_date_by_opening_it_however_many_do(file: Path) -> None:
    stores = await asyncio.gather(*(open_store(f"sqlite:///{file}", PATIENT_S) for _ in range(4)))
    for store in stores:
        assert await store.jobs() == []
        await store.close()

    await upgrade(f"sqlite:///{file}")


def _touch(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))


async def test_connections_that_open_a_new_sqlite_file_at_one_instant_all_get_it(tmp_path: Path) -> None:
    for number in range(20):
        databases = [Database(database_url(f"sqlite:///{tmp_path / str(number)}"), PATIENT_S) for _ in range(6)]
        await asyncio.gather(*(database.read(_touch) for database in databases))
        for database in databases:
            await database.close()


@pytest.mark.postgres
async def test_postgres_is_refused_until_somebody_upgrades_it(postgres: str) -> None:
    with pytest.raises(StoreRefused, match=r"no tables of Halo.*run `halo db upgrade`"):
        await open_store(postgres)

    await asyncio.gather(upgrade(postgres), upgrade(postgres))

    store = await open_store(postgres)
    assert await store.jobs() == []
    await store.close()


@pytest.mark.postgres
async def test_postgres_with_an_older_schema_is_refused(postgres: str) -> None:
    await upgrade(postgres)
    await administer(postgres, "UPDATE alembic_version SET version_num = '0000'")

    with pytest.raises(StoreRefused, match=r"has schema 0000.*needs schema.*run `halo db upgrade`"):
        await open_store(postgres)


async def test_tables_of_a_newer_halo_are_left_alone(file: Path) -> None:
    await upgrade(f"sqlite:///{file}")
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()

    with pytest.raises(StoreRefused, match="newer than this Halo's"):
        await open_store(f"sqlite:///{file}")
    with pytest.raises(StoreRefused, match="newer than this Halo's"):
        await upgrade(f"sqlite:///{file}")


async def test_a_migration_that_fails_leaves_nothing_behind(file: Path) -> None:
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE nodes (a INTEGER)"))

    with pytest.raises(StoreRefused, match="nodes"):
        await open_store(f"sqlite:///{file}")

    assert inspect(engine).get_table_names() == ["nodes"]
    engine.dispose()
