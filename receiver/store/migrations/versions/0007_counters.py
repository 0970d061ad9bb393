"""Counters of what reports told, and what a discrepancy is about."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    prefix, schema = ("faxhook_", None) if is_sqlite else ("", "faxhook")
    op.add_column(f"{prefix}discrepancies", sa.Column("rows", sa.Text), schema=schema)
    op.create_table(
        f"{prefix}counters",
        sa.Column("series", sa.Text, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        schema=schema,
        sqlite_with_rowid=False,
    )
