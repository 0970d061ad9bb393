"""
The tables, as both databases see them: ``faxhook_receipts`` in SQLite, ``faxhook.receipts`` in PostgreSQL.

Times are whole milliseconds since 1970 in UTC. ``README.md`` in this folder says which rows mean what, and
``migrations/`` creates the tables; a test keeps the two equal.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

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
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

from receiver.destinations import QUEUE as QUEUE
from receiver.store.stats_columns import FIGURES, KEY
from receiver.store.types import Id, Pairs, Sha256

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

PREFIX = "faxhook_"
SCHEMA = "faxhook"
LISTENER = "listen:"  # how the sinks of ``faxhook listen`` begin
PROJECTOR = "projector"  # the sink that fills ``finds``
TURNS = f"{SCHEMA}.turns"  # PostgreSQL's sequence of row numbers and turns


@dataclass(frozen=True, slots=True)
class Tables:
    """One database's tables."""

    metadata: MetaData
    meta: Table
    endpoints: Table
    receipts: Table
    rejected_receipts: Table
    endpoint_hours: Table
    replays: Table
    faxes: Table
    announcements: Table
    learned: Table
    late_faxes: Table
    repeats: Table
    finds: Table
    find_keys: Table
    hours: Table
    stats: Table
    events: Table
    sinks: Table
    waiting: Table
    taken: Table
    dead_letters: Table
    overdue: Table
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
        if sqlite:  # the options of a dialect import it
            return Index(f"{PREFIX}{name}", *columns, sqlite_where=some)
        return Index(name, *columns, postgresql_where=some)

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
            *_receipt(),
            index("receipts_state", "state", "id", where="state <> 'accepted'"),
            without_rowid=True,
        ),
        rejected_receipts=table(  # and partial ones: kept longer
            "rejected_receipts",
            *_receipt(),
            index("rejected_receipts_state", "state", "id"),
            without_rowid=True,
        ),
        endpoint_hours=table(  # where the receipts of an endpoint are: a row an hour, so that few commits write
            "endpoint_hours",
            Column("endpoint", Text, primary_key=True),
            Column("hour", BigInteger, primary_key=True, autoincrement=False),  # since 1970
            Column("by_report", Boolean(create_constraint=False), primary_key=True),  # or called
            Column("receipt", Id, primary_key=True),  # that noted it; others that did not see it may have as well
            without_rowid=True,
        ),
        replays=table(  # of either: the newest says what became of the receipt, unless it was accepted before
            "replays",
            Column("seq", row_id, primary_key=True, autoincrement=True),
            Column("receipt", Id, nullable=False),
            Column("at_ms", BigInteger, nullable=False),
            Column("state", Text, nullable=False),
            Column("reason", Text),
            Column("detail", Text),
            Column("faxes", Pairs, nullable=False),
            index("replays_receipt", "receipt", "seq"),
        ),
        faxes=table(
            "faxes",
            Column("fax_id", Id, primary_key=True),
            Column("provider", Text, nullable=False),
            Column("account", Text, nullable=False),
            Column("outcome", Text, nullable=False),
            Column("revision", Integer, nullable=False),
            Column("event_id", Id, nullable=False),  # the newest one; its data are the fax's facts
            Column("event_seq", BigInteger, nullable=False),  # its row number
            Column("first_seq", BigInteger, nullable=False),  # and that of the first one
            Column("seen_at_ms", BigInteger, nullable=False),  # last announcement
            Column("first_digest", Sha256, nullable=False),  # of the first announcement
            Column("first_outcome", Text, nullable=False),
            Column("by_report", Boolean(create_constraint=False)),  # first heard of in a report; null: by a callback
            without_rowid=True,
        ),
        announcements=table(  # all but each fax's first: most faxes are heard of once
            "announcements",
            Column("fax_id", Id, primary_key=True),
            Column("digest", Sha256, primary_key=True),
            Column("outcome", Text, nullable=False),
            Column("event_id", Id),  # the event that it made; null: none
            Column("event_seq", BigInteger),  # its row number
            without_rowid=True,
        ),
        learned=table(  # what a fax has learned since its newest event
            "learned",
            Column("fax_id", Id, primary_key=True),
            Column("event_id", Id, nullable=False),  # that event: when its payload goes, so does this
            Column("facts", Text, nullable=False),  # JSON: all that is known now
            without_rowid=True,
        ),
        late_faxes=table(  # their events are forgotten, but they were heard of again since
            "late_faxes",
            Column("due_at_ms", BigInteger, primary_key=True),  # when retention looks at them again
            Column("fax_id", Id, primary_key=True),
            without_rowid=True,
        ),
        repeats=table(  # receipts that name a fax and made no event of it
            "repeats",
            Column("fax_id", Id, primary_key=True),
            Column("receipt", Id, primary_key=True),
            without_rowid=True,
        ),
        finds=table(  # by what an event can be found: written by the projector
            "finds",
            Column("bucket", BigInteger, primary_key=True, autoincrement=False),  # so the new ones are on few pages
            Column("key", BigInteger, primary_key=True, autoincrement=False),  # of the event's id, or a keyed hash
            Column("seq", BigInteger, primary_key=True, autoincrement=False),
            without_rowid=True,
        ),
        find_keys=table(  # the keyed hashes of an event, so that they go with what they are of
            "find_keys",
            Column("seq", row_id, primary_key=True, autoincrement=False),
            Column("ids", LargeBinary, nullable=False),  # eight bytes each
            Column("facts", LargeBinary),  # null once the facts are purged
            Column("counted", Text),  # JSON: of a fax's first event, what ``stats`` has of the fax
        ),
        hours=table(  # where the events of a time are: written by the projector
            "hours",
            Column("hour", BigInteger, primary_key=True, autoincrement=False),  # since 1970
            Column("first", BigInteger, nullable=False),  # the lowest row number of an event made in it
            Column("last", BigInteger, nullable=False),
            without_rowid=True,
        ),
        stats=table(  # faxes counted by the time of their first completion: written by the projector
            "stats",
            Column("step", Integer, primary_key=True, autoincrement=False),  # minutes that a row is about: 5 or 60
            Column("from_ms", BigInteger, primary_key=True, autoincrement=False),
            *(Column(name, Text, primary_key=True) for name in KEY),  # "" where there is none
            *(Column(name, BigInteger, nullable=False) for name in FIGURES),
            without_rowid=True,
        ),
        events=table(
            "events",
            Column("seq", row_id, primary_key=True, autoincrement=False),  # row order
            Column("id", Id, nullable=False),  # found by way of ``finds``
            Column("fax_id", Id, nullable=False),
            Column("revision", Integer, nullable=False),
            Column("outcome", Text, nullable=False),
            Column("receipt", Id, nullable=False),
            Column("created_at_ms", BigInteger, nullable=False),
            Column("checksum", Sha256, nullable=False),
            Column("body", LargeBinary),  # the payload, as it is published; null once purged
        ),
        sinks=table(  # where events go to; what a commit puts into ``waiting`` follows from the configuration
            "sinks",
            Column("name", Text, primary_key=True),
            Column("made_at_ms", BigInteger, nullable=False),
            Column("filled_to", BigInteger),  # where from = "oldest" has come to; null: nothing is left to fill
            Column("stopped_at_ms", BigInteger),  # nothing goes there until an operator resumes it
            Column("stopped_for", Text),
            Column("trouble", Text),  # the kind of it; null while all is well
            Column("trouble_since_ms", BigInteger),
            without_rowid=True,
        ),
        waiting=table(  # the only truth about what is undelivered; who has taken the event deletes the row
            "waiting",
            Column("sink", Text, primary_key=True),
            Column("turn", BigInteger, primary_key=True, autoincrement=False),  # read in this order
            Column("seq", BigInteger, nullable=False),  # the event's, and the turn's unless it is sent again
            Column("fax_id", Id, nullable=False),
            Column("revision", Integer, nullable=False),
            Column("holder", Text),  # the consumer that has leased it
            Column("until_ms", BigInteger),
            index("waiting_held", "holder", where="holder IS NOT NULL"),
            index("waiting_again", "seq", where="seq <> turn"),
            without_rowid=True,
        ),
        taken=table(  # which events have arrived, when: runs of row numbers, each of at most ``outbox.LONGEST_RUN``
            "taken",
            Column("sink", Text, primary_key=True),
            Column("first", BigInteger, primary_key=True, autoincrement=False),
            Column("at_ms", BigInteger, primary_key=True, autoincrement=False),
            Column("last", BigInteger, nullable=False),
            without_rowid=True,
        ),
        dead_letters=table(  # events that were parked
            "dead_letters",
            Column("sink", Text, primary_key=True),
            Column("seq", BigInteger, primary_key=True, autoincrement=False),
            Column("fax_id", Id, nullable=False),
            Column("reason", Text, nullable=False),
            Column("parked_at_ms", BigInteger, nullable=False),
            without_rowid=True,
        ),
        overdue=table(  # events that retention found undelivered when their time was over, and that have arrived since
            "overdue",
            Column("seq", row_id, primary_key=True, autoincrement=False),
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
            Column("fax_id", Id, primary_key=True),
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
            index("discrepancies_found", "found_at_ms", "seq"),
            index("discrepancies_open", "found_at_ms", "seq", where="closed_at_ms IS NULL"),
            index("discrepancies_open_kinds", "kind", "found_at_ms", "seq", where="closed_at_ms IS NULL"),
            index("discrepancies_closed", "closed_at_ms", where="closed_at_ms IS NOT NULL"),
            index("discrepancies_rows", "seen_at_ms", where='"rows" IS NOT NULL'),
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


def _receipt() -> tuple[Column[Any], ...]:
    return (
        Column("id", Id, primary_key=True),  # sorts by time of arrival
        Column("endpoint", Text, nullable=False),
        Column("provider", Text, nullable=False),
        Column("state", Text, nullable=False),  # accepted duplicate ignored; rejected partial
        Column("reason", Text),  # a refusal's code
        Column("detail", Text),  # JSON: names of fields and what was expected, never a value
        Column("received_at_ms", BigInteger, nullable=False),
        Column("auth", Text, nullable=False),  # the endpoint's mode; "report" where nobody called
        Column("answer", Integer),  # the HTTP status; null: nobody called
        Column("size", Integer, nullable=False),
        Column("faxes", Pairs, nullable=False),  # those it names, each with the event it made
        Column("content_type", Text),  # this and the following are null once purged, or where nothing was kept
        Column("reference", Text),
        Column("query", LargeBinary),
        Column("body", LargeBinary),
    )


def insert(table: Table, dialect: str) -> "sqlite.Insert | postgresql.Insert":
    """An insert that can say what happens where the key is there already."""
    # PostgreSQL's dialect is an eighth of what a command on a SQLite store imports: it is imported where it is used.
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def insert_or_keep(table: Table, dialect: str) -> "sqlite.Insert | postgresql.Insert":
    """An insert that leaves a row alone whose key is there already."""
    return insert(table, dialect).on_conflict_do_nothing()


def insert_or_replace(table: Table, dialect: str) -> "sqlite.Insert | postgresql.Insert":
    """An insert that overwrites the row whose key is there already."""
    statement = insert(table, dialect)
    values = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=values)
