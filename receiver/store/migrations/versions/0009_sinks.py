"""The sinks that events go to: until now there was the queue alone."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    columns = (
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("made_at_ms", sa.BigInteger, nullable=False),
        sa.Column("filled_to", sa.BigInteger),
        sa.Column("stopped_at_ms", sa.BigInteger),
        sa.Column("stopped_for", sa.Text),
        sa.Column("trouble", sa.Text),
        sa.Column("trouble_since_ms", sa.BigInteger),
    )
    if is_sqlite:
        op.create_table("faxhook_sinks", *columns, sqlite_with_rowid=False)
    else:
        op.create_table("sinks", *columns, schema="faxhook")
