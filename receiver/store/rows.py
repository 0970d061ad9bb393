"""
The rows of a group of submissions: what is read of them before, and what is written.

``sqlite_rows`` and ``postgresql_rows`` do both, each in the way of its database. All is text for the driver's own
cursor: for a single fax, SQLAlchemy's way to the cursor takes longer than the rows.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from receiver import facts as fax_facts
from receiver.facts import Facts
from receiver.store.fax import COLUMNS, Fax
from receiver.store.submissions import checksum
from receiver.store.tables import Tables, define, insert_or_replace
from receiver.store.types import for_driver, from_driver

Row = Sequence[Any]
Jobs = dict[str, dict[str, Any]]  # fax id -> what its sender says of it

EVENT = ("seq", "id", "fax_id", "revision", "outcome", "receipt", "created_at_ms", "checksum", "body")
RECEIPT = (
    *("id", "endpoint", "provider", "state", "reason", "detail", "received_at_ms", "auth", "answer", "size", "faxes"),
    *("content_type", "reference", "query", "body"),
)
ENDPOINT_HOUR = ("endpoint", "hour", "by_report", "receipt")
REPLAY = ("receipt", "at_ms", "state", "reason", "detail", "faxes")
ANNOUNCEMENT = ("fax_id", "digest", "outcome", "event_id", "event_seq")
REPEAT = ("fax_id", "receipt")
FURTHER = ("sink", "turn", "seq", "fax_id", "revision")
WAITING = ("turn", "seq", "fax_id", "revision")
LEARNED = ("fax_id", "event_id", "facts")
CHANGED = ("fax_id", "outcome", "revision", "event_id", "event_seq", "seen_at_ms")  # of a fax, the id first
_CONTRADICTION = ("provider", "account", "endpoint", "kind", "subject", "detail", "found_at_ms", "seen_at_ms")


@dataclass(slots=True)
class Changes:
    """
    What a group adds and changes: rows in the order of their tables' columns.

    events: in the order in which they were told; the row number is 0 until there is one. further: those that go to a
    sink beside the queue. amended_new_faxes: those of
    the new ones that are not any more as their first announcement made them. told_again: faxes with a new event, which
    has what they had learned. to_project: turns of events that the projector has to look at again, with row number, fax
    and revision. jobs: faxes that are not expected any more.
    """

    new_faxes: list[Row] = field(default_factory=list)
    amended_new_faxes: list[Row] = field(default_factory=list)
    faxes: list[Row] = field(default_factory=list)
    announcements: list[list[Any]] = field(default_factory=list)
    events: list[list[Any]] = field(default_factory=list)
    further: list[Row] = field(default_factory=list)
    receipts: list[Row] = field(default_factory=list)
    rejected_receipts: list[Row] = field(default_factory=list)
    endpoint_hours: dict[tuple[str, int, bool], str] = field(default_factory=dict)
    replays: list[Row] = field(default_factory=list)
    told_again: list[str] = field(default_factory=list)
    learned: list[Row] = field(default_factory=list)
    to_project: list[Row] = field(default_factory=list)
    repeats: list[Row] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    positions: list[dict[str, Any]] = field(default_factory=list)
    contradictions: list[dict[str, Any]] = field(default_factory=list)


class GroupRows(Protocol):
    def load(self, first: dict[str, Fax], digests: Mapping[str, set[str]]) -> tuple[dict[str, Fax], Jobs]:
        """
        The group's faxes, and what is registered of them.

        first: each fax as its first announcement in the group makes it, which it stays where nothing is known of it.
        digests: what is said of each, so that facts are read only where something of it is new. A new one may have
        the row number of its first event already. Raises ConflictError where the group has to be recorded once more.
        """

    def numbers(self, count: int) -> Sequence[int]:
        """Row numbers for so many events, the next ones; the faxes are locked by now."""

    def write(self, changes: Changes) -> None: ...


class Kept:
    """Some columns of a table, as the driver's own cursor gives and takes them."""

    def __init__(self, table: sa.Table, columns: Sequence[str], dialect: str) -> None:
        self.columns = columns
        kinds = [table.c[name].type for name in columns]
        self._for_driver = _ways(for_driver(kind, dialect) for kind in kinds)
        self._from_driver = _ways(from_driver(kind, dialect) for kind in kinds)

    def bound(self, rows: Iterable[Row]) -> list[list[Any]]:
        """Rows of ours for the driver."""
        return _converted(rows, self._for_driver)

    def read(self, rows: Iterable[Row]) -> list[list[Any]]:
        """The driver's rows as ours."""
        return _converted(rows, self._from_driver)


Ways = Sequence[tuple[int, Callable[[Any], Any]]]  # position in a row -> how the value there is converted


def _ways(of_columns: Iterable[Callable[[Any], Any] | None]) -> Ways:
    return [(at, way) for at, way in enumerate(of_columns) if way is not None]


def _converted(rows: Iterable[Row], ways: Ways) -> list[list[Any]]:
    found = []
    for row in rows:
        values = list(row)
        for at, way in ways:
            if values[at] is not None:
                values[at] = way(values[at])
        found.append(values)
    return found


@dataclass(frozen=True, slots=True)
class KeptRows:
    """What a group reads and writes of each table."""

    faxes: Kept
    changed: Kept
    announcements: Kept
    events: Kept
    receipts: Kept
    endpoint_hours: Kept
    replays: Kept
    learned: Kept
    to_project: Kept
    repeats: Kept
    further: Kept


@cache
def kept_by(dialect: str) -> KeptRows:
    tables = define(dialect)
    return KeptRows(
        faxes=Kept(tables.faxes, COLUMNS, dialect),
        changed=Kept(tables.faxes, CHANGED, dialect),
        announcements=Kept(tables.announcements, ANNOUNCEMENT, dialect),
        events=Kept(tables.events, EVENT, dialect),
        receipts=Kept(tables.receipts, RECEIPT, dialect),
        endpoint_hours=Kept(tables.endpoint_hours, ENDPOINT_HOUR, dialect),
        replays=Kept(tables.replays, REPLAY, dialect),
        learned=Kept(tables.learned, LEARNED, dialect),
        to_project=Kept(tables.waiting, WAITING, dialect),
        further=Kept(tables.waiting, FURTHER, dialect),
        repeats=Kept(tables.repeats, REPEAT, dialect),
    )


def of_interest(known: Mapping[str, Fax], digests: Mapping[str, set[str]], jobs: Jobs) -> list[str]:
    """The faxes of which something new is said, so that their facts are needed."""
    return [fax_id for fax_id, fax in known.items() if fax_id in jobs or not digests[fax_id] <= fax.digests]


def facts_of(event_id: str, stored: bytes | None, its_checksum: str, learned: str | None) -> Facts | None:
    """What is known of a fax; None where it was purged, or is not as it was written."""
    if learned is not None:
        return cast("Facts", json.loads(learned))
    if stored is None or checksum(event_id, stored) != its_checksum:
        return None
    return fax_facts.of_published(json.loads(stored)["data"])


def newest_facts(connection: Connection, tables: Tables, fax_ids: Sequence[str]) -> dict[str, Facts | None]:
    """What is known of these faxes, which must be locked; None where it was purged."""
    faxes, events, learned = tables.faxes, tables.events, tables.learned
    query = (
        sa.select(faxes.c.fax_id, events.c.id, events.c.body, events.c.checksum, learned.c.facts)
        .join_from(faxes, events, is_newest(tables))
        .outerjoin(learned, sa.and_(learned.c.fax_id == faxes.c.fax_id, learned.c.event_id == faxes.c.event_id))
        .where(faxes.c.fax_id.in_(fax_ids))
    )
    return {fax_id: facts_of(*stored) for fax_id, *stored in connection.execute(query)}


def is_newest(tables: Tables) -> sa.ColumnElement[bool]:
    """Joins a fax with its newest event. The id as well: a number may be given again once its event is gone."""
    faxes, events = tables.faxes, tables.events
    return sa.and_(events.c.seq == faxes.c.event_seq, events.c.id == faxes.c.event_id)


def changed(row: Row) -> Row:
    """Of a fax's row what may change, behind its id."""
    known = dict(zip(COLUMNS, row, strict=True))
    return tuple(known[name] for name in CHANGED)


def facts_query(tables: Tables, condition: str) -> str:
    """For each fax its id, its newest event's id, payload and checksum, and what it has learned since."""
    faxes, events, learned = tables.faxes.fullname, tables.events.fullname, tables.learned.fullname
    return (
        "SELECT faxes.fax_id, faxes.event_id, events.body, events.checksum, learned.facts"  # noqa: S608 - ours
        f" FROM {faxes} AS faxes"
        f" JOIN {events} AS events ON events.seq = faxes.event_seq AND events.id = faxes.event_id"
        f" LEFT JOIN {learned} AS learned ON learned.fax_id = faxes.fax_id AND learned.event_id = faxes.event_id"
        f" WHERE {condition}"
    )


def _open_again(table: sa.Table, dialect: str) -> sa.Insert:
    """An insert that opens again what was closed."""
    insert = (sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)).inline()
    found = sa.case((table.c.closed_at_ms.is_(None), table.c.found_at_ms), else_=insert.excluded.found_at_ms)
    change = {name: insert.excluded[name] for name in ("endpoint", "detail", "seen_at_ms")}
    return insert.on_conflict_do_update(
        index_elements=["provider", "account", "kind", "subject"],
        set_={**change, "found_at_ms": found, "closed_at_ms": sa.null()},
    )


def as_text(statement: sa.Insert, dialect: sa.Dialect, columns: Iterable[str]) -> str:
    """The statement with a named parameter for each of these columns."""
    return str(statement.compile(dialect=dialect, column_keys=list(columns)))


def read_facts(rows: Iterable[Row], tables: Tables, dialect: str) -> list[tuple[str, Facts | None]]:
    """What ``facts_query`` has found: each fax with what is known of it."""
    id_of = from_driver(tables.faxes.c.fax_id.type, dialect) or str
    hex_of = from_driver(tables.events.c.checksum.type, dialect) or str
    return [
        (id_of(fax_id), facts_of(id_of(event_id), stored, hex_of(its_checksum), learned))
        for fax_id, event_id, stored, its_checksum, learned in rows
    ]


def move_cursors(tables: Tables, dialect: sa.Dialect) -> str:
    """How far a report has been read."""
    return as_text(insert_or_replace(tables.cursors, dialect.name), dialect, tables.cursors.c.keys())


def add_discrepancies(tables: Tables, dialect: sa.Dialect) -> str:
    """A contradiction, opened again where it was closed."""
    return as_text(_open_again(tables.discrepancies, dialect.name), dialect, _CONTRADICTION)
