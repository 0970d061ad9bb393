"""Used Digest nonces, on PostgreSQL; SQLite keeps them in a file of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        return
    op.create_table(
        "nonces",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("expires", sa.Double, nullable=False),
        schema="faxhook",
    )
    op.create_index("nonces_expires", "nonces", ["expires"], schema="faxhook")
