"""What reports need: faxes that are expected, how far each report has been read, and what does not add up."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    prefix, schema = ("faxhook_", None) if is_sqlite else ("", "faxhook")
    op.add_column(f"{prefix}faxes", sa.Column("by_report", sa.Boolean(create_constraint=False)), schema=schema)
    op.create_table(
        f"{prefix}jobs",
        sa.Column("fax_id", sa.Text, primary_key=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("registered_at_ms", sa.BigInteger, nullable=False),
        sa.Column("due_at_ms", sa.BigInteger, nullable=False),
        sa.Column("asked_at_ms", sa.BigInteger),
        sa.Column("asked", sa.Integer, nullable=False),
        schema=schema,
        sqlite_with_rowid=False,
    )
    op.create_index(f"{prefix}jobs_due", f"{prefix}jobs", ["provider", "account", "due_at_ms"], schema=schema)
    op.create_table(
        f"{prefix}cursors",
        sa.Column("provider", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("report", sa.Text, primary_key=True),
        sa.Column("position", sa.Text, nullable=False),
        sa.Column("moved_at_ms", sa.BigInteger, nullable=False),
        schema=schema,
        sqlite_with_rowid=False,
    )
    row_id = sa.Integer() if is_sqlite else sa.BigInteger()
    op.create_table(
        f"{prefix}discrepancies",
        sa.Column("seq", row_id, primary_key=True, autoincrement=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("found_at_ms", sa.BigInteger, nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger, nullable=False),
        sa.Column("closed_at_ms", sa.BigInteger),
        sa.UniqueConstraint("provider", "account", "kind", "subject"),
        schema=schema,
    )
