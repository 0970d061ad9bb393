"""Who is the active relay, since when it has trouble, and its sign of life."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    columns = (
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger, nullable=False),
        sa.Column("trouble", sa.Text),
        sa.Column("trouble_since_ms", sa.BigInteger),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.create_table("faxhook_relays", *columns, sqlite_with_rowid=False)
    else:
        op.create_table("relays", *columns, schema="faxhook")
