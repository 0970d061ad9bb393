"""How many requests were refused and left no receipt: counts by endpoint and reason, in steps of five minutes."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    prefix, schema = ("faxhook_", None) if is_sqlite else ("", "faxhook")
    op.create_table(
        f"{prefix}refusals",
        sa.Column("from_ms", sa.BigInteger, primary_key=True),
        sa.Column("endpoint", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        schema=schema,
        sqlite_with_rowid=False,
    )
