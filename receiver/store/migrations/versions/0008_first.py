"""The first tables. Lower numbers were those of development stores, which are refused."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from receiver.store.places import BEGINNING, PLACES

revision = "0008"
down_revision = None

_milliseconds = sa.BigInteger


def upgrade() -> None:
    _what_is_configured()
    _receipts()
    _faxes()
    _events()
    _projection()
    _reports()
    _operations()


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _row_id() -> Any:
    return sa.Integer() if _is_sqlite() else sa.BigInteger()  # SQLite numbers rows in a column typed INTEGER


def _id() -> Any:
    return sa.LargeBinary(16) if _is_sqlite() else postgresql.UUID()


def _table(name: str, *columns: Any, rowid: bool = True) -> sa.Table:
    if _is_sqlite():
        return op.create_table("faxhook_" + name, *columns, sqlite_with_rowid=rowid)
    return op.create_table(name, *columns, schema="faxhook")


def _index(name: str, on: str, *columns: str, where: str | None = None) -> None:
    some = sa.text(where) if where else None
    if _is_sqlite():
        op.create_index("faxhook_" + name, "faxhook_" + on, columns, sqlite_where=some)
    else:
        op.create_index(name, on, columns, schema="faxhook", postgresql_where=some)


def _what_is_configured() -> None:
    meta = _table(
        "meta",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        rowid=False,
    )
    op.bulk_insert(meta, [{"name": PLACES, "value": BEGINNING}])
    _table(
        "endpoints",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("account", sa.Text),
        rowid=False,
    )
    _table(
        "sinks",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("made_at_ms", _milliseconds, nullable=False),
        sa.Column("filled_to", sa.BigInteger),
        sa.Column("stopped_at_ms", _milliseconds),
        sa.Column("stopped_for", sa.Text),
        sa.Column("trouble", sa.Text),
        sa.Column("trouble_since_ms", _milliseconds),
        rowid=False,
    )


def _receipts() -> None:
    for name in ("receipts", "rejected_receipts"):
        _table(
            name,
            sa.Column("id", _id(), primary_key=True),
            sa.Column("endpoint", sa.Text, nullable=False),
            sa.Column("provider", sa.Text, nullable=False),
            sa.Column("state", sa.Text, nullable=False),
            sa.Column("reason", sa.Text),
            sa.Column("detail", sa.Text),
            sa.Column("received_at_ms", _milliseconds, nullable=False),
            sa.Column("auth", sa.Text, nullable=False),
            sa.Column("answer", sa.Integer),
            sa.Column("size", sa.Integer, nullable=False),
            sa.Column("faxes", sa.LargeBinary, nullable=False),
            sa.Column("content_type", sa.Text),
            sa.Column("reference", sa.Text),
            sa.Column("query", sa.LargeBinary),
            sa.Column("body", sa.LargeBinary),
            rowid=False,
        )
    _index("receipts_state", "receipts", "state", "id", where="state <> 'accepted'")
    _index("rejected_receipts_state", "rejected_receipts", "state", "id")
    _table(
        "endpoint_hours",
        sa.Column("endpoint", sa.Text, primary_key=True),
        sa.Column("hour", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("by_report", sa.Boolean(create_constraint=False), primary_key=True),
        sa.Column("receipt", _id(), primary_key=True),
        rowid=False,
    )
    _table(
        "replays",
        sa.Column("seq", _row_id(), primary_key=True, autoincrement=True),
        sa.Column("receipt", _id(), nullable=False),
        sa.Column("at_ms", _milliseconds, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("detail", sa.Text),
        sa.Column("faxes", sa.LargeBinary, nullable=False),
    )
    _index("replays_receipt", "replays", "receipt", "seq")


def _faxes() -> None:
    _table(
        "faxes",
        sa.Column("fax_id", _id(), primary_key=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("event_id", _id(), nullable=False),
        sa.Column("event_seq", sa.BigInteger, nullable=False),
        sa.Column("first_seq", sa.BigInteger, nullable=False),
        sa.Column("seen_at_ms", _milliseconds, nullable=False),
        sa.Column("first_digest", sa.LargeBinary, nullable=False),
        sa.Column("first_outcome", sa.Text, nullable=False),
        sa.Column("by_report", sa.Boolean(create_constraint=False)),
        rowid=False,
    )
    _table(
        "announcements",
        sa.Column("fax_id", _id(), primary_key=True),
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("event_id", _id()),
        sa.Column("event_seq", sa.BigInteger),
        rowid=False,
    )
    _table(
        "learned",
        sa.Column("fax_id", _id(), primary_key=True),
        sa.Column("event_id", _id(), nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        rowid=False,
    )
    _table(
        "late_faxes",
        sa.Column("due_at_ms", _milliseconds, primary_key=True),
        sa.Column("fax_id", _id(), primary_key=True),
        rowid=False,
    )
    _table(
        "repeats",
        sa.Column("fax_id", _id(), primary_key=True),
        sa.Column("receipt", _id(), primary_key=True),
        rowid=False,
    )
    _table(
        "jobs",
        sa.Column("fax_id", _id(), primary_key=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("registered_at_ms", _milliseconds, nullable=False),
        sa.Column("due_at_ms", _milliseconds, nullable=False),
        sa.Column("asked_at_ms", _milliseconds),
        sa.Column("asked", sa.Integer, nullable=False),
        rowid=False,
    )
    _index("jobs_due", "jobs", "provider", "account", "due_at_ms")


def _events() -> None:
    if not _is_sqlite():
        op.execute("CREATE SEQUENCE faxhook.turns")
    _table(
        "events",
        sa.Column("seq", _row_id(), primary_key=True, autoincrement=False),
        sa.Column("id", _id(), nullable=False),
        sa.Column("fax_id", _id(), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("receipt", _id(), nullable=False),
        sa.Column("created_at_ms", _milliseconds, nullable=False),
        sa.Column("checksum", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary),
    )
    _table(
        "waiting",
        sa.Column("sink", sa.Text, primary_key=True),
        sa.Column("turn", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("fax_id", _id(), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("holder", sa.Text),
        sa.Column("until_ms", _milliseconds),
        rowid=False,
    )
    _index("waiting_held", "waiting", "holder", where="holder IS NOT NULL")
    _index("waiting_again", "waiting", "seq", where="seq <> turn")
    _table(
        "taken",
        sa.Column("sink", sa.Text, primary_key=True),
        sa.Column("first", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at_ms", _milliseconds, primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        rowid=False,
    )
    _table(
        "dead_letters",
        sa.Column("sink", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("fax_id", _id(), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("parked_at_ms", _milliseconds, nullable=False),
        rowid=False,
    )
    _table("overdue", sa.Column("seq", _row_id(), primary_key=True, autoincrement=False))


def _projection() -> None:
    _table(
        "finds",
        sa.Column("bucket", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        rowid=False,
    )
    _table(
        "find_keys",
        sa.Column("seq", _row_id(), primary_key=True, autoincrement=False),
        sa.Column("ids", sa.LargeBinary, nullable=False),
        sa.Column("facts", sa.LargeBinary),
        sa.Column("counted", sa.Text),
    )
    _table(
        "hours",
        sa.Column("hour", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        rowid=False,
    )
    key = ("endpoint", "provider", "country", "outcome", "reason", "currency")
    durations = (f"{name}_{at}" for name in ("ending", "calling") for at in range(22))
    figures = ("faxes", "tried", "first_tries", "called", "missed", "unlisted", "pages", "priced", "cost", *durations)
    _table(
        "stats",
        sa.Column("step", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("from_ms", _milliseconds, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Text, primary_key=True) for name in key),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in figures),
        rowid=False,
    )


def _reports() -> None:
    _table(
        "cursors",
        sa.Column("provider", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("report", sa.Text, primary_key=True),
        sa.Column("position", sa.Text, nullable=False),
        sa.Column("moved_at_ms", _milliseconds, nullable=False),
        rowid=False,
    )
    _table(
        "discrepancies",
        sa.Column("seq", _row_id(), primary_key=True, autoincrement=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("rows", sa.Text),
        sa.Column("found_at_ms", _milliseconds, nullable=False),
        sa.Column("seen_at_ms", _milliseconds, nullable=False),
        sa.Column("closed_at_ms", _milliseconds),
        sa.UniqueConstraint("provider", "account", "kind", "subject"),
    )
    _index("discrepancies_found", "discrepancies", "found_at_ms", "seq")
    _index("discrepancies_open", "discrepancies", "found_at_ms", "seq", where="closed_at_ms IS NULL")
    _index("discrepancies_open_kinds", "discrepancies", "kind", "found_at_ms", "seq", where="closed_at_ms IS NULL")
    _index("discrepancies_closed", "discrepancies", "closed_at_ms", where="closed_at_ms IS NOT NULL")
    _index("discrepancies_rows", "discrepancies", "seen_at_ms", where='"rows" IS NOT NULL')
    _table(
        "counters",
        sa.Column("series", sa.Text, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        rowid=False,
    )


def _operations() -> None:
    _table(
        "audit",
        sa.Column("seq", _row_id(), primary_key=True, autoincrement=True),
        sa.Column("at_ms", _milliseconds, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
    )
    _table(
        "relays",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until_ms", _milliseconds, nullable=False),
        sa.Column("seen_at_ms", _milliseconds, nullable=False),
        sa.Column("trouble", sa.Text),
        sa.Column("trouble_since_ms", _milliseconds),
        rowid=False,
    )
    _table(
        "refusals",
        sa.Column("from_ms", _milliseconds, primary_key=True),
        sa.Column("endpoint", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        rowid=False,
    )
    if not _is_sqlite():
        _table(
            "nonces",
            sa.Column("name", sa.Text, primary_key=True),
            sa.Column("expires", sa.Double, nullable=False),
        )
        _index("nonces_expires", "nonces", "expires")
