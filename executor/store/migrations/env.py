"""Alembic's own entry: it runs this file for every command, with the connection that Halo put into the config."""

from alembic import context

from executor.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite can roll back DDL; only the standard driver's old way of opening transactions could not.
    transactional_ddl=True,
)
context.run_migrations()
