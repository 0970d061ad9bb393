"""
The tables, as both databases see them: ``faxhook_receipts`` in SQLite, ``faxhook.receipts`` in PostgreSQL.

Times are whole milliseconds since 1970 in UTC. Bodies and payloads stand apart from their rows, so that what is
personal can be purged while the ids stay. ``migrations/`` creates them; a test keeps the two equal.

The pages it changes are most of what a commit costs. So long rows stand in tables that grow at their end, only short
ones in trees ordered by a hash, and there is no index that a list or a purge could do without.
"""

from dataclasses import dataclass
from functools import cache

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

PREFIX = "faxhook_"
SCHEMA = "faxhook"


@dataclass(frozen=True, slots=True)
class Tables:
    """One database's tables."""

    metadata: MetaData
    meta: Table
    endpoints: Table
    receipts: Table
    bodies: Table
    faxes: Table
    announcements: Table
    events: Table
    payloads: Table
    audit: Table
    relays: Table
    jobs: Table
    cursors: Table
    discrepancies: Table
    refusals: Table
    counters: Table
    nonces: Table  # in SQLite it is in a file of its own, see receiver.store.nonces


@cache
def define(dialect: str) -> Tables:
    """The tables for ``sqlite`` or ``postgresql``."""
    sqlite = dialect == "sqlite"
    metadata = MetaData(schema=None if sqlite else SCHEMA)

    def table(name: str, *columns: SchemaItem, without_rowid: bool = False) -> Table:
        return Table(PREFIX + name if sqlite else name, metadata, *columns, sqlite_with_rowid=not without_rowid)

    def index(name: str, *columns: str, where: str | None = None) -> Index:
        some = text(where) if where else None
        return Index(f"{PREFIX}{name}" if sqlite else name, *columns, sqlite_where=some, postgresql_where=some)

    row_id: TypeEngine[int] = Integer() if sqlite else BigInteger()  # SQLite counts only in a column typed INTEGER

    return Tables(
        metadata=metadata,
        meta=table(
            "meta",
            Column("name", Text, primary_key=True),
            Column("value", Text, nullable=False),
            without_rowid=True,
        ),
        endpoints=table(
            "endpoints",
            Column("name", Text, primary_key=True),
            Column("provider", Text, nullable=False),
            Column("account", Text),
            without_rowid=True,
        ),
        receipts=table(
            "receipts",
            Column("id", Text, primary_key=True),  # sorts by time of arrival
            Column("endpoint", Text, nullable=False),
            Column("provider", Text, nullable=False),
            Column("state", Text, nullable=False),  # accepted partial duplicate ignored rejected
            Column("reason", Text),  # a refusal's code
            Column("detail", Text),  # JSON: names of fields and what was expected, never a value
            Column("received_at_ms", BigInteger, nullable=False),
            Column("size", Integer, nullable=False),
            Column("body_hash", Text),
            without_rowid=True,
        ),
        bodies=table(
            "bodies",
            Column("seq", row_id, primary_key=True, autoincrement=True),  # row order
            Column("hash", Text, nullable=False, unique=True),
            Column("rejected", Boolean(create_constraint=False), nullable=False),  # kept longer
            Column("stored_at_ms", BigInteger, nullable=False),
            Column("content_type", Text, nullable=False),
            Column("reference", Text),
            Column("query", LargeBinary, nullable=False),
            Column("body", LargeBinary, nullable=False),
            index("bodies_rejected", "stored_at_ms", where="rejected"),
        ),
        faxes=table(
            "faxes",
            Column("fax_id", Text, primary_key=True),
            Column("provider", Text, nullable=False),
            Column("account", Text, nullable=False),
            Column("outcome", Text, nullable=False),
            Column("revision", Integer, nullable=False),
            Column("event_id", Text, nullable=False),  # the current one
            Column("seen_at_ms", BigInteger, nullable=False),  # last announcement
            Column("first_digest", Text, nullable=False),  # of the first announcement
            Column("first_outcome", Text, nullable=False),
            Column("facts", Text),  # JSON; null once purged
            Column("by_report", Boolean(create_constraint=False)),  # first heard of in a report; null: by a callback
            index("faxes_with_facts", "seen_at_ms", where="facts IS NOT NULL"),
            index("faxes_without_facts", "seen_at_ms", where="facts IS NULL"),
        ),
        announcements=table(  # all but each fax's first: most faxes are heard of once
            "announcements",
            Column("fax_id", Text, primary_key=True),
            Column("digest", Text, primary_key=True),
            Column("outcome", Text, nullable=False),
            Column("seen_at_ms", BigInteger, nullable=False),
            without_rowid=True,
        ),
        events=table(
            "events",
            Column("seq", row_id, primary_key=True, autoincrement=True),  # row order
            Column("id", Text, nullable=False, unique=True),
            Column("fax_id", Text, nullable=False),
            Column("type", Text, nullable=False),
            Column("outcome", Text, nullable=False),
            Column("receipt", Text),
            Column("state", Text, nullable=False),  # pending leased published dead
            Column("created_at_ms", BigInteger, nullable=False),
            Column("published_at_ms", BigInteger),
            Column("lease_owner", Text),
            Column("lease_until_ms", BigInteger),
            index("events_state", "state", "seq"),
            index("events_fax", "fax_id", "seq"),
            index("events_receipt", "receipt"),
        ),
        payloads=table(
            "payloads",
            Column("seq", row_id, primary_key=True, autoincrement=False),  # the event's
            Column("checksum", Text, nullable=False),
            Column("stored_at_ms", BigInteger, nullable=False),
            Column("body", LargeBinary, nullable=False),
        ),
        audit=table(
            "audit",
            Column("seq", row_id, primary_key=True, autoincrement=True),
            Column("at_ms", BigInteger, nullable=False),
            Column("actor", Text, nullable=False),
            Column("action", Text, nullable=False),
            Column("subject", Text, nullable=False),
        ),
        relays=table(
            "relays",
            Column("name", Text, primary_key=True),  # one row: one relay is active for a store
            Column("holder", Text, nullable=False),
            Column("until_ms", BigInteger, nullable=False),  # by the database's clock; then another may take over
            Column("seen_at_ms", BigInteger, nullable=False),
            Column("trouble", Text),  # with the broker; null while all is well
            Column("trouble_since_ms", BigInteger),
            without_rowid=True,
        ),
        jobs=table(  # faxes that were sent and not heard of yet: a row goes when its fax is recorded
            "jobs",
            Column("fax_id", Text, primary_key=True),
            Column("provider", Text, nullable=False),
            Column("account", Text, nullable=False),
            Column("endpoint", Text, nullable=False),
            Column("job_id", Text, nullable=False),
            Column("facts", Text, nullable=False),  # JSON: what its sender knows of it
            Column("registered_at_ms", BigInteger, nullable=False),
            Column("due_at_ms", BigInteger, nullable=False),
            Column("asked_at_ms", BigInteger),  # when a report was last asked for it
            Column("asked", Integer, nullable=False),  # how often
            index("jobs_due", "provider", "account", "due_at_ms"),
            without_rowid=True,
        ),
        cursors=table(
            "cursors",
            Column("provider", Text, primary_key=True),
            Column("account", Text, primary_key=True),
            Column("report", Text, primary_key=True),
            Column("position", Text, nullable=False),  # JSON: until when it has been read, and the provider's cursor
            Column("moved_at_ms", BigInteger, nullable=False),
            without_rowid=True,
        ),
        discrepancies=table(
            "discrepancies",
            Column("seq", row_id, primary_key=True, autoincrement=True),
            Column("provider", Text, nullable=False),
            Column("account", Text, nullable=False),
            Column("endpoint", Text, nullable=False),
            Column("kind", Text, nullable=False),
            Column("subject", Text, nullable=False),
            Column("detail", Text, nullable=False),  # JSON: counts and words
            Column("rows", Text),  # JSON: what it is about, as the provider has it; null: nothing, or purged
            Column("found_at_ms", BigInteger, nullable=False),
            Column("seen_at_ms", BigInteger, nullable=False),
            Column("closed_at_ms", BigInteger),  # null: it is still so
            UniqueConstraint("provider", "account", "kind", "subject"),
        ),
        refusals=table(  # requests that left no receipt
            "refusals",
            Column("from_ms", BigInteger, primary_key=True),  # the five minutes that begin then
            Column("endpoint", Text, primary_key=True),
            Column("reason", Text, primary_key=True),
            Column("count", BigInteger, nullable=False),
            without_rowid=True,
        ),
        counters=table(  # of what reports told
            "counters",
            Column("series", Text, primary_key=True),  # JSON: the metric's name and the values of its labels
            Column("count", BigInteger, nullable=False),
            without_rowid=True,
        ),
        nonces=Table(
            "nonces",
            MetaData() if sqlite else metadata,
            Column("name", Text, primary_key=True),
            Column("expires", Double, nullable=False),
            index("nonces_expires", "expires"),
        ),
    )


def insert(table: Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    """An insert that can say what happens where the key is there already."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def insert_or_keep(table: Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    """An insert that leaves a row alone whose key is there already."""
    return insert(table, dialect).on_conflict_do_nothing()


def insert_or_replace(table: Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    """An insert that overwrites the row whose key is there already."""
    statement = insert(table, dialect)
    values = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=values)
