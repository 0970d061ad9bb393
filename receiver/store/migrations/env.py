"""
Alembic's entry: on a connection that ``receiver.store.migrating`` has opened and locked, or for a dialect, whose
statements are only written down.
"""

from alembic import context

from receiver.store.tables import SCHEMA

attributes = context.config.attributes
connection = attributes.get("connection")
dialect = attributes["dialect"] if connection is None else connection.dialect.name
sqlite = dialect == "sqlite"

context.configure(
    connection=connection,
    dialect_name=dialect,
    literal_binds=connection is None,
    version_table="faxhook_alembic_version" if sqlite else "alembic_version",
    version_table_schema=None if sqlite else SCHEMA,
    transaction_per_migration=False,
)
context.run_migrations()
