"""Engines that an operator took out, for every process that shares the database."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select

from executor.store.bulk import INSERT_DRAINED
from executor.store.tables import drained_engines, stored_text
from planner.ir.ids import EngineId


def drain(connection: Connection, engine: EngineId, operator: str) -> None:
    INSERT_DRAINED.run(connection, [(stored_text(engine), stored_text(operator))])


def resume(connection: Connection, engine: EngineId) -> None:
    connection.execute(delete(drained_engines).where(drained_engines.c.engine == engine))


def drained(connection: Connection) -> Sequence[EngineId]:
    return sorted(EngineId(engine) for engine in connection.execute(select(drained_engines.c.engine)).scalars())
