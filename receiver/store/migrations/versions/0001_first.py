"""The first tables: receipts and bodies, facts and announcements, events and payloads."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    row_id: Any = sa.Integer() if sqlite else sa.BigInteger()
    milliseconds = sa.BigInteger

    def table(name: str, *columns: Any, rowid: bool = True) -> None:
        if sqlite:
            op.create_table("faxhook_" + name, *columns, sqlite_with_rowid=rowid)
        else:
            op.create_table(name, *columns, schema="faxhook")

    def index(name: str, on: str, *columns: str, where: str | None = None) -> None:
        some = sa.text(where) if where else None
        if sqlite:
            op.create_index("faxhook_" + name, "faxhook_" + on, columns, sqlite_where=some)
        else:
            op.create_index(name, on, columns, schema="faxhook", postgresql_where=some)

    table(
        "meta",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        rowid=False,
    )
    table(
        "endpoints",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("account", sa.Text),
        rowid=False,
    )
    table(
        "receipts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("detail", sa.Text),
        sa.Column("received_at_ms", milliseconds, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("body_hash", sa.Text),
        rowid=False,
    )
    table(
        "bodies",
        sa.Column("hash", sa.Text, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("query", sa.LargeBinary, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("reference", sa.Text),
        sa.Column("rejected", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("stored_at_ms", milliseconds, nullable=False),
        rowid=False,
    )
    index("bodies_stored", "bodies", "rejected", "stored_at_ms")
    table(
        "faxes",
        sa.Column("fax_id", sa.Text, primary_key=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("facts", sa.Text),
        sa.Column("seen_at_ms", milliseconds, nullable=False),
        rowid=False,
    )
    index("faxes_with_facts", "faxes", "seen_at_ms", where="facts IS NOT NULL")
    index("faxes_without_facts", "faxes", "seen_at_ms", where="facts IS NULL")
    table(
        "announcements",
        sa.Column("fax_id", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("seen_at_ms", milliseconds, nullable=False),
        rowid=False,
    )
    table(
        "events",
        sa.Column("seq", row_id, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("fax_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("receipt", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at_ms", milliseconds, nullable=False),
        sa.Column("published_at_ms", milliseconds),
        sa.Column("lease_owner", sa.Text),
        sa.Column("lease_until_ms", milliseconds),
    )
    index("events_state", "events", "state", "seq")
    index("events_fax", "events", "fax_id", "seq")
    index("events_receipt", "events", "receipt")
    table(
        "payloads",
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("checksum", sa.Text, nullable=False),
        sa.Column("stored_at_ms", milliseconds, nullable=False),
    )
    index("payloads_stored", "payloads", "stored_at_ms")
    table(
        "audit",
        sa.Column("seq", row_id, primary_key=True, autoincrement=True),
        sa.Column("at_ms", milliseconds, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
    )
