"""Alembic's entry: always on a connection that ``receiver.store.migrating`` has opened and locked."""

from alembic import context

from receiver.store.tables import SCHEMA

connection = context.config.attributes["connection"]
sqlite = connection.dialect.name == "sqlite"

context.configure(
    connection=connection,
    version_table="faxhook_alembic_version" if sqlite else "alembic_version",
    version_table_schema=None if sqlite else SCHEMA,
    transaction_per_migration=False,
)
context.run_migrations()
